-- writes: postgres t_grouping_sets
-- key: tier, region, level
SELECT COALESCE(tier, '-') AS tier, COALESCE(region, '-') AS region, GROUPING(tier, region) AS level, COUNT(*) AS n
FROM customers
WHERE tier IS NOT NULL AND region IS NOT NULL
GROUP BY GROUPING SETS ((tier), (region), ())
