-- writes: postgres t_join_left_anti
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, c.tier
FROM customers c
LEFT JOIN orders o ON o.customer_id = c.customer_id
WHERE o.order_id IS NULL
