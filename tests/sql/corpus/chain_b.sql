-- writes: postgres t_chain_b
-- key: customer_id
SELECT a.customer_id, c.tier, a.n, a.total FROM chain_a a LEFT JOIN customers c ON c.customer_id = a.customer_id
