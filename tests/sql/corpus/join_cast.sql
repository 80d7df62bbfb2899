-- writes: postgres t_join_cast
-- key: item_id, product_id
-- postgres: yes
SELECT i.item_id, p.product_id
FROM items i
JOIN products p ON CAST(p.stock AS VARCHAR) = CAST(i.quantity AS VARCHAR)
