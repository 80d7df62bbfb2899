-- writes: postgres t_join_inner
-- key: item_id
-- postgres: yes
SELECT i.item_id, o.status, o.amount FROM items i JOIN orders o ON o.order_id = i.order_id
