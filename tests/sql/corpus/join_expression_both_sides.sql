-- writes: postgres t_join_expression_both_sides
-- key: one, other
SELECT a.customer_id AS one, b.customer_id AS other
FROM customers a
JOIN customers b ON UPPER(a.tier) = b.tier AND LOWER(a.region) = b.region
