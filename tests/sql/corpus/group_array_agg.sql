-- writes: postgres t_group_array_agg
-- key: order_id
SELECT order_id, ARRAY_AGG(quantity ORDER BY item_id DESC) AS list
FROM items
WHERE order_id IS NOT NULL
GROUP BY order_id
