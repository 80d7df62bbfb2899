-- writes: postgres t_join_full_of_full
-- key: order_id, customer_id, item_id
SELECT COALESCE(o.order_id, -1) AS order_id, COALESCE(c.customer_id, -1) AS customer_id, COALESCE(i.item_id, -1) AS item_id
FROM orders o
FULL JOIN customers c ON c.customer_id = o.customer_id
FULL JOIN items i ON i.order_id = o.order_id
