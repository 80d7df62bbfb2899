-- writes: postgres t_in_result
-- key: customer_id
SELECT customer_id, region
FROM customers
WHERE customer_id IN (SELECT customer_id FROM chain_a WHERE n > 1)
