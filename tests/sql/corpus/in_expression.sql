-- writes: postgres t_in_expression
-- key: order_id
SELECT order_id
FROM orders
WHERE order_id + 1 IN (SELECT item_id * 2 FROM items)
