-- writes: postgres t_join_expressions_two
-- key: order_id, event_id
SELECT o.order_id, e.event_id
FROM orders o
JOIN events e ON e.event_id % 3 = o.customer_id AND COALESCE(e.kind, '-') = COALESCE(o.status, '-')
