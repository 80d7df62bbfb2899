-- writes: postgres t_filter_false
-- key: order_id
SELECT order_id
FROM orders
WHERE FALSE
