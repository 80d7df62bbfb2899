-- writes: postgres t_window_group_by_flag
-- key: is_past
-- postgres: yes
SELECT COALESCE(placed <= watermark(), FALSE) AS is_past, COUNT(*) AS n, MAX(amount) AS top
FROM orders
GROUP BY 1
