-- writes: postgres t_join_one_column_twice
-- key: item_id
-- postgres: yes
SELECT i.item_id, o.order_id FROM items i JOIN orders o ON o.order_id = i.order_id AND o.customer_id = i.order_id
