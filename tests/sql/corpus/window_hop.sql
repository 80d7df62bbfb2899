-- writes: postgres t_window_hop
-- key: window_start
SELECT date_bin(INTERVAL '10 minutes', o.placed, TIMESTAMP '1970-01-01 00:00:00') + v.shift AS window_start, COUNT(*) AS n FROM orders o CROSS JOIN (VALUES (INTERVAL '0 minutes'), (INTERVAL '5 minutes')) AS v (shift) WHERE o.placed IS NOT NULL GROUP BY 1
