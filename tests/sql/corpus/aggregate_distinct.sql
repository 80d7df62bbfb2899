-- writes: postgres t_aggregate_distinct
-- key: tier
-- postgres: yes
SELECT tier, COUNT(*) AS regions
FROM (SELECT DISTINCT tier, region FROM customers) t
WHERE tier IS NOT NULL
GROUP BY tier
