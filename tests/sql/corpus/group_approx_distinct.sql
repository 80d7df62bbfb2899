-- writes: postgres t_group_approx_distinct
-- key: tier
SELECT tier, APPROX_DISTINCT(region) AS regions FROM customers WHERE tier IS NOT NULL GROUP BY tier
