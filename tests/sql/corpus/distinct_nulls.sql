-- writes: postgres t_distinct_nulls
-- key: tier, is_known
-- postgres: yes
SELECT COALESCE(tier, '-') AS tier, tier IS NOT NULL AS is_known
FROM (SELECT DISTINCT tier FROM customers) t
