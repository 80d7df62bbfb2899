-- writes: postgres bench_product_sales
-- key: product_id
SELECT p.product_id, p.name, COUNT(i.item_id) AS lines, SUM(i.quantity) AS pieces, SUM(i.subtotal) AS revenue
FROM products p
LEFT JOIN order_items i ON i.product_id = p.product_id
GROUP BY p.product_id, p.name
