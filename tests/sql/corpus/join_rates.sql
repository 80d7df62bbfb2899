-- writes: postgres t_join_rates
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, v.rate
FROM customers c
LEFT JOIN (VALUES ('GOLD', 3), ('SILVER', 2)) AS v (tier, rate) ON v.tier = c.tier
