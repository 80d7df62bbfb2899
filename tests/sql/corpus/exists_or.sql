-- writes: postgres t_exists_or
-- key: customer_id
-- postgres: yes
SELECT customer_id FROM customers c WHERE tier = 'GOLD' OR EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id)
