-- writes: postgres t_group_bit
-- key: order_id
SELECT order_id, BIT_AND(product_id) AS a, BIT_OR(product_id) AS o, BIT_XOR(product_id) AS x FROM items WHERE order_id IS NOT NULL GROUP BY order_id
