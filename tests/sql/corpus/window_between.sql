-- writes: postgres t_window_between
-- key: order_id
-- postgres: yes
SELECT order_id, status
FROM orders
WHERE placed BETWEEN watermark() - INTERVAL '5 minutes' AND watermark()
