-- writes: postgres t_chain_of_distinct
-- key: tier
SELECT tier, COUNT(*) AS regions, MIN(region) AS first
FROM distinct_nulls d
JOIN group_two_columns g USING (tier)
GROUP BY tier
