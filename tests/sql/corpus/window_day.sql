-- writes: postgres t_window_day
-- key: order_id
SELECT order_id, CAST(placed AS DATE) < CAST(watermark() AS DATE) AS is_old
FROM orders
