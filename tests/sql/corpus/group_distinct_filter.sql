-- writes: postgres t_group_distinct_filter
-- key: tier
-- postgres: yes
SELECT tier, COUNT(DISTINCT region) FILTER (WHERE name <> 'ada') AS regions, COUNT(DISTINCT name) AS names, MIN(referrer) FILTER (WHERE region = 'north') AS low
FROM customers
WHERE tier IS NOT NULL
GROUP BY tier
