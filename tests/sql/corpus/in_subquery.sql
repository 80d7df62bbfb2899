-- writes: postgres t_in_subquery
-- key: order_id
-- postgres: yes
SELECT order_id, amount FROM orders WHERE customer_id IN (SELECT customer_id FROM customers WHERE tier = 'GOLD')
