-- writes: postgres t_window_not_final
-- key: order_id
-- postgres: yes
SELECT order_id
FROM orders
WHERE NOT (placed <= watermark())
