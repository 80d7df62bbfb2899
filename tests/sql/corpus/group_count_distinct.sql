-- writes: postgres t_group_count_distinct
-- key: tier
-- postgres: yes
SELECT tier, COUNT(DISTINCT region) AS regions, COUNT(DISTINCT referrer) AS referrers, COUNT(*) AS n FROM customers WHERE tier IS NOT NULL GROUP BY tier
