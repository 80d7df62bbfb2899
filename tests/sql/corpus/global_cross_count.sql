-- writes: postgres t_global_cross_count
-- broken: must either specify a row count or at least one column
-- key: n
SELECT COUNT(*) AS n
FROM orders
CROSS JOIN items
