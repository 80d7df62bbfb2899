-- writes: postgres t_not_in_subquery_keys
-- key: order_id
-- postgres: yes
SELECT order_id FROM orders WHERE order_id NOT IN (SELECT item_id FROM items)
