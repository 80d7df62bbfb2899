-- writes: postgres t_join_coalesce
-- key: order_id, customer_id
-- postgres: yes
SELECT o.order_id, c.customer_id
FROM orders o
JOIN customers c ON COALESCE(o.status, '-') = COALESCE(c.tier, '-')
