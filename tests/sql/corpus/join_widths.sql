-- writes: postgres t_join_widths
-- key: item_id, product_id
-- postgres: yes
SELECT i.item_id, p.product_id, p.stock
FROM items i
JOIN products p ON p.stock = i.quantity
