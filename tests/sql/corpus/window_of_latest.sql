-- writes: postgres t_window_of_latest
-- key: status
-- postgres: yes
SELECT status, last, last <= watermark() AS is_past
FROM (SELECT status, MAX(placed) AS last FROM orders WHERE status IS NOT NULL GROUP BY status) t
