-- writes: postgres t_not_exists
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, c.name FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id)
