-- writes: postgres t_group_two_columns
-- key: tier, region
-- postgres: yes
SELECT COALESCE(tier, '-') AS tier, COALESCE(region, '-') AS region, COUNT(*) AS n FROM customers GROUP BY COALESCE(tier, '-'), COALESCE(region, '-')
