-- writes: postgres t_chain_c
-- key: tier
SELECT COALESCE(tier, '-') AS tier, SUM(n) AS orders, MAX(total) AS best FROM chain_b GROUP BY 1
