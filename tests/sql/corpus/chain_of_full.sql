-- writes: postgres t_chain_of_full
-- key: customer_id
SELECT customer_id, COUNT(*) AS n, MAX(status) AS last
FROM join_full
WHERE customer_id >= 0
GROUP BY customer_id
