-- writes: postgres t_window_join_condition
-- key: order_id, event_id
-- postgres: yes
SELECT o.order_id, e.event_id
FROM orders o
JOIN events e ON e.kind = o.status AND e.happened <= watermark()
