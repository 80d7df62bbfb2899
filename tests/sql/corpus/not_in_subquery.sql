-- writes: postgres t_not_in_subquery
-- key: order_id
-- postgres: yes
SELECT order_id, amount FROM orders WHERE customer_id NOT IN (SELECT referrer FROM customers)
