-- writes: postgres t_group_min_max_text
-- key: tier
SELECT tier, MIN(name) AS first, MAX(region) AS last FROM customers WHERE tier IS NOT NULL GROUP BY tier
