-- writes: postgres t_window_swapped
-- key: order_id
-- postgres: yes
SELECT order_id, watermark() > placed + INTERVAL '5 minutes' AS is_past, watermark() >= placed AS is_reached
FROM orders
