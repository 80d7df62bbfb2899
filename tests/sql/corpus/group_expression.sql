-- writes: postgres t_group_expression
-- key: bucket
SELECT order_id % 3 AS bucket, COUNT(*) AS n, MIN(status) AS s FROM orders GROUP BY order_id % 3
