-- writes: postgres t_scalar_subquery_max
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, (SELECT MAX(o.amount) FROM orders o WHERE o.customer_id = c.customer_id) AS best FROM customers c
