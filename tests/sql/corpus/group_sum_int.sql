-- writes: postgres t_group_sum_int
-- key: order_id
SELECT order_id, SUM(quantity) AS pieces, AVG(quantity) AS mean FROM items WHERE order_id IS NOT NULL GROUP BY order_id
