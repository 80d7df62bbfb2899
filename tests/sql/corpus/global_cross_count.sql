-- writes: postgres t_global_cross_count
-- key: n
SELECT COUNT(*) AS n
FROM orders
CROSS JOIN items
