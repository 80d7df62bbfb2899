-- writes: postgres t_union_widths
-- key: src, id, x
-- postgres: yes
SELECT 'i' AS src, item_id AS id, quantity AS x
FROM items
WHERE quantity IS NOT NULL
UNION ALL SELECT 'p', product_id, stock
FROM products
WHERE stock IS NOT NULL
