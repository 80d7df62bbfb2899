-- writes: postgres t_chain_of_two
-- key: order_id, tier, region
SELECT o.order_id, d.tier, d.region
FROM orders o
JOIN distinct_nulls n ON n.tier = o.status
JOIN group_two_columns d ON d.tier = n.tier
