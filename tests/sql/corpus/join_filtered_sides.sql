-- writes: postgres t_join_filtered_sides
-- key: item_id
-- postgres: yes
SELECT i.item_id, p.category FROM (SELECT * FROM items WHERE quantity > 2) i JOIN (SELECT * FROM products WHERE active) p ON p.product_id = i.product_id
