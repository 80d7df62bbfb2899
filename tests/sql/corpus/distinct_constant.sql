-- writes: postgres t_distinct_constant
-- key: x
SELECT DISTINCT 1 AS x
FROM orders
WHERE amount > 0
