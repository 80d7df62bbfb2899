-- writes: postgres t_group_without_aggregates
-- key: tier, region
-- postgres: yes
SELECT tier, region
FROM customers
WHERE tier IS NOT NULL AND region IS NOT NULL
GROUP BY tier, region
