-- writes: postgres t_join_left_filtered_after
-- key: customer_id, order_id
-- postgres: yes
SELECT c.customer_id, o.order_id
FROM customers c
LEFT JOIN orders o ON o.customer_id = c.customer_id
WHERE o.status = 'NEW' OR c.tier = 'GOLD' AND o.order_id IS NOT NULL
