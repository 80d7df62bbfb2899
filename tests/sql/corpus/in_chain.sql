-- writes: postgres t_in_chain
-- key: customer_id
SELECT customer_id
FROM customers
WHERE customer_id IN (SELECT customer_id FROM orders WHERE order_id IN (SELECT order_id FROM items WHERE product_id IN (SELECT product_id FROM products WHERE active)))
