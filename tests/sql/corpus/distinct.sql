-- writes: postgres t_distinct
-- key: tier, region
-- postgres: yes
SELECT DISTINCT COALESCE(tier, '-') AS tier, COALESCE(region, '-') AS region FROM customers
