-- writes: postgres t_exists_residual
-- key: customer_id
-- postgres: yes
SELECT c.customer_id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id AND o.order_id > c.referrer)
