-- writes: postgres t_scalar_subquery
-- key: order_id
SELECT order_id, amount FROM orders WHERE amount > (SELECT AVG(price) FROM items)
