-- writes: postgres t_scalar_shown
-- key: customer_id
-- postgres: yes
SELECT customer_id, (SELECT COUNT(*) FROM orders) AS orders
FROM customers
