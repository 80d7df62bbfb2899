-- writes: postgres t_window_full_join_condition
-- key: order_id, event_id
SELECT COALESCE(o.order_id, -1) AS order_id, COALESCE(e.event_id, -1) AS event_id
FROM orders o
FULL JOIN events e ON e.kind = o.status AND e.happened <= watermark()
