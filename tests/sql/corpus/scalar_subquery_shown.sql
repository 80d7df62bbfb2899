-- writes: postgres t_scalar_subquery_shown
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, (SELECT COUNT(*) FROM orders o WHERE o.customer_id = c.customer_id) AS orders FROM customers c
