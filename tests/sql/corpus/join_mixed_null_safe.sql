-- writes: postgres t_join_mixed_null_safe
-- key: one, other
-- postgres: yes
SELECT a.customer_id AS one, COALESCE(b.customer_id, -1) AS other
FROM customers a
LEFT JOIN customers b ON a.tier = b.tier AND (a.region IS NOT DISTINCT FROM b.region) AND a.customer_id <> b.customer_id
