-- writes: postgres t_aggregate_join
-- key: tier
-- postgres: yes
SELECT COALESCE(c.tier, '-') AS tier, COUNT(*) AS orders, SUM(o.amount) AS total FROM orders o LEFT JOIN customers c ON c.customer_id = o.customer_id GROUP BY COALESCE(c.tier, '-')
