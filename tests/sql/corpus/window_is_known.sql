-- writes: postgres t_window_is_known
-- key: order_id
-- postgres: yes
SELECT order_id, watermark() IS NULL AS is_early
FROM orders
WHERE amount > 0
