-- writes: postgres t_join_residual_inner
-- key: item_id
-- postgres: yes
SELECT i.item_id, o.amount, i.price FROM items i JOIN orders o ON o.order_id = i.order_id AND o.amount > i.price
