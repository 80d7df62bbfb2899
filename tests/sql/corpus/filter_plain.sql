-- writes: postgres t_filter_plain
-- key: order_id
-- postgres: yes
SELECT order_id, status, amount FROM orders WHERE amount > 20
