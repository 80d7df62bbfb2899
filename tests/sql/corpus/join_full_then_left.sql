-- writes: postgres t_join_full_then_left
-- key: order_id, customer_id, item_id
-- postgres: yes
SELECT COALESCE(o.order_id, -1) AS order_id, COALESCE(c.customer_id, -1) AS customer_id, COALESCE(i.item_id, -1) AS item_id, i.quantity
FROM orders o
FULL JOIN customers c ON c.customer_id = o.customer_id
LEFT JOIN items i ON i.order_id = o.order_id
