-- writes: postgres t_global_union_constants
-- key: n
SELECT COUNT(*) AS n
FROM (SELECT 1 AS a FROM orders UNION ALL SELECT 1 FROM items) t
