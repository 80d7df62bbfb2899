-- writes: postgres t_exists
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, c.tier FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id)
