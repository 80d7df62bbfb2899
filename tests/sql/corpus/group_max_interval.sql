-- writes: postgres t_group_max_interval
-- key: status
SELECT status, MAX(e.happened - o.placed) AS gap
FROM orders o
JOIN events e ON e.kind = o.status
WHERE status IS NOT NULL
GROUP BY status
