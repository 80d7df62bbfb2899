-- writes: postgres t_window_case
-- key: order_id
-- postgres: yes
SELECT order_id, CASE WHEN placed IS NULL THEN 'never' WHEN placed <= watermark() - INTERVAL '5 minutes' THEN 'past' WHEN placed <= watermark() THEN 'recent' ELSE 'ahead' END AS phase
FROM orders
