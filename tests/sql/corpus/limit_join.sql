-- writes: postgres t_limit_join
-- key: item_id
-- postgres: yes
SELECT i.item_id, t.order_id
FROM items i
JOIN (SELECT order_id FROM orders ORDER BY order_id LIMIT 2) t ON t.order_id = i.order_id
