-- writes: postgres t_group_day
-- key: day
SELECT CAST(placed AS DATE) AS day, COUNT(*) AS n
FROM orders
WHERE placed IS NOT NULL
GROUP BY 1
