-- writes: postgres t_join_lateral
-- key: customer_id, order_id
SELECT c.customer_id, t.order_id
FROM customers c
CROSS JOIN LATERAL (SELECT o.order_id FROM orders o WHERE o.customer_id = c.customer_id AND o.status = c.tier) t
