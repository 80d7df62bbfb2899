-- writes: postgres t_first_line_stats
-- key: category
-- postgres: yes
WITH first_lines AS (SELECT order_id, MIN(item_id) AS item_id FROM items GROUP BY order_id) SELECT COALESCE(p.category, 'none') AS category, COUNT(*) AS orders, SUM(o.amount) AS total FROM orders o LEFT JOIN first_lines f ON f.order_id = o.order_id LEFT JOIN items i ON i.item_id = f.item_id LEFT JOIN products p ON p.product_id = i.product_id GROUP BY 1
