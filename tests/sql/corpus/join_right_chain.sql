-- writes: postgres t_join_right_chain
-- key: item_id
-- postgres: yes
SELECT i.item_id, p.category, o.status
FROM products p
RIGHT JOIN items i ON i.product_id = p.product_id
LEFT JOIN orders o ON o.order_id = i.order_id
