-- writes: postgres t_join_two_columns
-- key: item_id, other_id
-- postgres: yes
SELECT a.item_id, b.item_id AS other_id, a.quantity FROM items a JOIN items b ON a.order_id = b.order_id AND a.product_id = b.product_id
