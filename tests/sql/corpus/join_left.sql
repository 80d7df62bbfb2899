-- writes: postgres t_join_left
-- key: item_id
-- postgres: yes
SELECT i.item_id, o.status FROM items i LEFT JOIN orders o ON o.order_id = i.order_id
