-- writes: postgres t_window_open_rows
-- key: order_id
SELECT order_id, placed FROM orders WHERE placed > watermark()
