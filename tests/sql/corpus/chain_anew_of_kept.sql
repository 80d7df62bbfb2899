-- writes: postgres t_chain_anew_of_kept
-- key: customer_id
SELECT customer_id, RANK() OVER (ORDER BY total DESC NULLS LAST, customer_id) AS place FROM chain_a
