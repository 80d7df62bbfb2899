-- writes: postgres t_aggregate_semi
-- key: tier
-- postgres: yes
SELECT c.tier, SUM(c.referrer) AS s, COUNT(*) AS n
FROM customers c
WHERE c.tier IS NOT NULL AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id AND o.amount > 10)
GROUP BY c.tier
