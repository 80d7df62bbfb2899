-- writes: postgres t_join_triangle
-- key: a, b, c
SELECT o.order_id AS a, i.item_id AS b, p.product_id AS c
FROM orders o
JOIN items i ON i.order_id = o.order_id
JOIN products p ON p.product_id = i.product_id AND p.stock = o.customer_id
