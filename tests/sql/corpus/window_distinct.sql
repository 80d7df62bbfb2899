-- writes: postgres t_window_distinct
-- key: status, is_past
-- postgres: yes
SELECT DISTINCT COALESCE(status, '-') AS status, COALESCE(placed <= watermark(), TRUE) AS is_past
FROM orders
