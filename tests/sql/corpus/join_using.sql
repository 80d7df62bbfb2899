-- writes: postgres t_join_using
-- key: item_id
-- postgres: yes
SELECT item_id, order_id, status
FROM items
JOIN orders USING (order_id)
