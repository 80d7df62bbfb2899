-- writes: postgres t_join_decimal
-- key: order_id, item_id
-- postgres: yes
SELECT o.order_id, i.item_id
FROM orders o
JOIN items i ON i.price = o.amount
