-- writes: postgres t_join_swapped_columns
-- key: one, other
SELECT a.customer_id AS one, b.customer_id AS other
FROM customers a
JOIN customers b ON a.customer_id = b.referrer AND a.referrer = b.customer_id
