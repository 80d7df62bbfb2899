-- writes: postgres t_window_overdue_count
-- key: status
SELECT COALESCE(status, '-') AS status, COUNT(*) FILTER (WHERE placed < watermark()) AS behind, COUNT(*) AS n FROM orders GROUP BY COALESCE(status, '-')
