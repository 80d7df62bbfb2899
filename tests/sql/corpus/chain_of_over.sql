-- writes: postgres t_chain_of_over
-- key: customer_id
SELECT c.customer_id, r.nth
FROM customers c
JOIN over_rank r ON r.order_id = c.referrer
