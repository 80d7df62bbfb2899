-- writes: postgres t_group_string_agg
-- key: order_id
SELECT order_id, STRING_AGG(CAST(item_id AS VARCHAR), ',' ORDER BY item_id) AS list FROM items WHERE order_id IS NOT NULL GROUP BY order_id
