-- writes: postgres t_chain_union
-- key: customer_id
SELECT customer_id, SUM(n) AS n, COUNT(*) AS sources
FROM (SELECT customer_id, n FROM chain_a UNION ALL SELECT customer_id, n FROM chain_b WHERE tier = 'GOLD') t
GROUP BY customer_id
