-- writes: postgres t_join_or
-- key: order_id, customer_id
-- postgres: yes
SELECT o.order_id, c.customer_id
FROM orders o
JOIN customers c ON c.customer_id = o.customer_id OR c.tier = o.status
