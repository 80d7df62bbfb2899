-- writes: postgres t_join_between
-- key: order_id, customer_id, event_id
-- postgres: yes
SELECT o.order_id, c.customer_id, e.event_id
FROM orders o
JOIN customers c ON c.customer_id = o.customer_id
JOIN events e ON e.kind = o.status AND e.event_id BETWEEN c.referrer AND o.order_id
