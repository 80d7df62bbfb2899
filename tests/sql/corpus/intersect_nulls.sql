-- writes: postgres t_intersect_nulls
-- key: label
-- postgres: yes
SELECT COALESCE(label, '-') AS label
FROM (SELECT status AS label FROM orders INTERSECT SELECT tier FROM customers) t
