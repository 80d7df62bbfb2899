-- writes: postgres t_window_five_minutes
-- key: window_start
SELECT date_bin(INTERVAL '5 minutes', o.placed, TIMESTAMP '1970-01-01 00:00:00') AS window_start, COUNT(*) AS n, SUM(o.amount) AS total FROM orders o WHERE o.placed IS NOT NULL GROUP BY 1
