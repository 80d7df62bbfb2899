-- writes: postgres t_window_having_count
-- key: status
SELECT status, COUNT(*) AS n
FROM orders
WHERE status IS NOT NULL
GROUP BY status
HAVING COUNT(*) FILTER (WHERE placed <= watermark()) > 1
