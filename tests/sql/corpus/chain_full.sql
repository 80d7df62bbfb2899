-- writes: postgres t_chain_full
-- key: customer_id, tier
SELECT COALESCE(a.customer_id, -1) AS customer_id, COALESCE(c.tier, '-') AS tier, a.n, c.orders
FROM chain_b a
FULL JOIN chain_c c ON c.tier = a.tier
