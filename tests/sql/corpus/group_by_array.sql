-- writes: postgres t_group_by_array
-- key: list
SELECT list, COUNT(*) AS n
FROM (SELECT order_id, ARRAY_AGG(quantity ORDER BY item_id) AS list FROM items GROUP BY order_id) t
GROUP BY list
