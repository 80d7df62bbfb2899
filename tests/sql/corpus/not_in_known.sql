-- writes: postgres t_not_in_known
-- key: order_id
-- postgres: yes
SELECT order_id
FROM orders
WHERE customer_id NOT IN (SELECT referrer FROM customers WHERE referrer IS NOT NULL)
