-- writes: postgres t_join_left_nested
-- key: customer_id, order_id, item_id
-- postgres: yes
SELECT c.customer_id, COALESCE(t.order_id, -1) AS order_id, COALESCE(t.item_id, -1) AS item_id
FROM customers c
LEFT JOIN (SELECT o.order_id, o.customer_id, i.item_id FROM orders o JOIN items i ON i.order_id = o.order_id) t ON t.customer_id = c.customer_id
