-- writes: postgres t_chain_exists
-- key: customer_id
SELECT c.customer_id FROM customers c WHERE NOT EXISTS (SELECT 1 FROM chain_a a WHERE a.customer_id = c.customer_id AND a.n > 1)
