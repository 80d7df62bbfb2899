-- writes: postgres t_join_full_residual
-- key: order_id, item_id
SELECT COALESCE(o.order_id, -1) AS order_id, COALESCE(i.item_id, -1) AS item_id, o.amount, i.price
FROM orders o
FULL JOIN items i ON i.order_id = o.order_id AND i.price > o.amount
