-- writes: postgres t_window_count_distinct
-- key: status
-- postgres: yes
SELECT COALESCE(status, '-') AS status, COUNT(DISTINCT customer_id) FILTER (WHERE placed <= watermark()) AS customers
FROM orders
GROUP BY 1
