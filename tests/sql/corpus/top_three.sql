-- writes: postgres t_top_three
-- key: order_id
-- postgres: yes
SELECT order_id, amount FROM orders WHERE amount IS NOT NULL ORDER BY amount DESC, order_id LIMIT 3
