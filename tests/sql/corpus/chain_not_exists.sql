-- writes: postgres t_chain_not_exists
-- key: customer_id
SELECT c.customer_id
FROM customers c
WHERE NOT EXISTS (SELECT 1 FROM join_left_many j WHERE j.customer_id = c.customer_id AND j.status = 'NEW')
