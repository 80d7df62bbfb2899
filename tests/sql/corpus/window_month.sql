-- writes: postgres t_window_month
-- key: order_id
SELECT order_id
FROM orders
WHERE placed > watermark() - INTERVAL '1 month'
