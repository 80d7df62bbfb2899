-- writes: postgres t_scalar_or_zero
-- key: customer_id
SELECT c.customer_id, COALESCE((SELECT SUM(o.amount) FROM orders o WHERE o.customer_id = c.customer_id), 0) + 1 AS total
FROM customers c
