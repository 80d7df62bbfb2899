-- writes: postgres t_window_overdue
-- key: order_id
SELECT order_id, status, placed < watermark() - INTERVAL '3 minutes' AS is_overdue, placed >= watermark() AS is_early FROM orders
