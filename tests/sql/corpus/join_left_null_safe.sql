-- writes: postgres t_join_left_null_safe
-- key: order_id, customer_id
-- postgres: yes
SELECT o.order_id, COALESCE(c.customer_id, -1) AS customer_id
FROM orders o
LEFT JOIN customers c ON o.status IS NOT DISTINCT
FROM c.tier
