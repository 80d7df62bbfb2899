-- writes: postgres t_join_non_equi_left
-- key: order_id, item_id
-- postgres: yes
SELECT o.order_id, COALESCE(i.item_id, -1) AS item_id FROM orders o LEFT JOIN items i ON i.price > o.amount
