-- writes: postgres t_except_ids
-- key: id
-- postgres: yes
SELECT order_id AS id FROM orders EXCEPT SELECT order_id FROM items
