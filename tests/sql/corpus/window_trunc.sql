-- writes: postgres t_window_trunc
-- key: hour, kind
-- postgres: yes
SELECT date_trunc('hour', happened) AS hour, kind, COUNT(*) AS n, MAX(score) AS top FROM events WHERE happened IS NOT NULL AND kind IS NOT NULL GROUP BY 1, 2
