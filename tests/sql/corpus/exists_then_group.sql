-- writes: postgres t_exists_then_group
-- key: tier
-- postgres: yes
SELECT tier, COUNT(*) AS n FROM customers c WHERE tier IS NOT NULL AND EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id AND o.amount > 10) GROUP BY tier
