-- writes: postgres t_chain_a
-- key: customer_id
SELECT customer_id, COUNT(*) AS n, SUM(amount) AS total FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id
