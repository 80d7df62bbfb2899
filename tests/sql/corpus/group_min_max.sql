-- writes: postgres t_group_min_max
-- key: order_id
-- postgres: yes
SELECT order_id, MIN(price) AS low, MAX(price) AS high, MIN(item_id) AS first, MAX(quantity) AS most FROM items WHERE order_id IS NOT NULL GROUP BY order_id
