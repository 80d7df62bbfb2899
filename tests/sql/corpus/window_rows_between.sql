-- writes: postgres t_window_rows_between
-- key: order_id, event_id
SELECT o.order_id, e.event_id
FROM orders o
JOIN events e ON e.kind = o.status
WHERE e.happened > o.placed AND e.happened <= watermark() + INTERVAL '2 minutes'
