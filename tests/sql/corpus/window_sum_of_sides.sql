-- writes: postgres t_window_sum_of_sides
-- key: order_id, event_id
SELECT o.order_id, e.event_id
FROM orders o
JOIN events e ON e.kind = o.status AND GREATEST(e.happened, o.placed) <= watermark()
