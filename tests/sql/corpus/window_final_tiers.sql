-- writes: postgres t_window_final_tiers
-- key: window_start, tier
-- postgres: yes
SELECT window_start, tier, n, total, window_start + INTERVAL '5 minutes' <= watermark() AS is_final
FROM (SELECT date_bin(INTERVAL '5 minutes', o.placed, TIMESTAMP '1970-01-01 00:00:00') AS window_start, COALESCE(c.tier, '-') AS tier, COUNT(*) AS n, SUM(o.amount) AS total FROM orders o LEFT JOIN customers c ON c.customer_id = o.customer_id WHERE o.placed IS NOT NULL GROUP BY 1, 2) t
