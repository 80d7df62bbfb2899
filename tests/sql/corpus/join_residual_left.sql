-- writes: postgres t_join_residual_left
-- key: item_id
-- postgres: yes
SELECT i.item_id, i.price, o.amount FROM items i LEFT JOIN orders o ON o.order_id = i.order_id AND o.amount > i.price
