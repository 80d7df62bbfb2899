-- writes: postgres t_aggregate_left_count
-- key: product_id
-- postgres: yes
SELECT p.product_id, COUNT(i.item_id) AS lines, SUM(i.quantity) AS pieces FROM products p LEFT JOIN items i ON i.product_id = p.product_id GROUP BY p.product_id
