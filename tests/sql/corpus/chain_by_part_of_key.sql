-- writes: postgres t_chain_by_part_of_key
-- key: customer_id, tier, region
SELECT c.customer_id, g.tier, g.region, g.n
FROM customers c
JOIN group_two_columns g ON g.region = c.region
