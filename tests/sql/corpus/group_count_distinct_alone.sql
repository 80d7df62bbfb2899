-- writes: postgres t_group_count_distinct_alone
-- key: tier
-- postgres: yes
SELECT tier, COUNT(DISTINCT region) AS regions FROM customers WHERE tier IS NOT NULL GROUP BY tier
