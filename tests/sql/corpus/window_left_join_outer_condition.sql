-- writes: postgres t_window_left_join_outer_condition
-- key: order_id, event_id
SELECT o.order_id, COALESCE(e.event_id, -1) AS event_id
FROM orders o
LEFT JOIN events e ON e.kind = o.status AND e.happened <= o.placed AND o.placed <= watermark()
