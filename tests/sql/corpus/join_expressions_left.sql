-- writes: postgres t_join_expressions_left
-- key: item_id, other
SELECT a.item_id, COALESCE(b.item_id, -1) AS other
FROM items a
LEFT JOIN items b ON b.item_id = a.item_id + 1 AND b.quantity * 2 = a.quantity
