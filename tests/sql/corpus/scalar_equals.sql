-- writes: postgres t_scalar_equals
-- key: order_id
-- postgres: yes
SELECT o.order_id
FROM orders o
WHERE o.amount = (SELECT MAX(x.amount) FROM orders x WHERE x.customer_id = o.customer_id)
