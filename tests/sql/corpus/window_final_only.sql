-- writes: postgres t_window_final_only
-- key: window_start
SELECT window_start, n FROM (SELECT date_bin(INTERVAL '5 minutes', o.placed, TIMESTAMP '1970-01-01 00:00:00') AS window_start, COUNT(*) AS n FROM orders o WHERE o.placed IS NOT NULL GROUP BY 1) t WHERE window_start + INTERVAL '5 minutes' <= watermark()
