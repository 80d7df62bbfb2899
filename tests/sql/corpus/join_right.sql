-- writes: postgres t_join_right
-- key: order_id, item_id
-- postgres: yes
SELECT o.order_id, COALESCE(i.item_id, -1) AS item_id, i.quantity FROM items i RIGHT JOIN orders o ON o.order_id = i.order_id
