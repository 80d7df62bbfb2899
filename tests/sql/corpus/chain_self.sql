-- writes: postgres t_chain_self
-- key: one, other
SELECT a.customer_id AS one, b.customer_id AS other
FROM chain_b a
JOIN chain_b b ON b.tier = a.tier AND b.n >= a.n
WHERE a.customer_id <> b.customer_id
