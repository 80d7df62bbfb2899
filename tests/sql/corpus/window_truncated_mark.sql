-- writes: postgres t_window_truncated_mark
-- key: order_id
-- postgres: yes
SELECT order_id
FROM orders
WHERE date_trunc('hour', placed) <= date_trunc('hour', watermark())
