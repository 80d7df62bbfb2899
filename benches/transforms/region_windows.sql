-- writes: postgres bench_region_windows
-- key: region, window_start
SELECT
  c.region,
  date_bin(INTERVAL '5 minutes', o.order_date, TIMESTAMP '1970-01-01 00:00:00') AS window_start,
  COUNT(*) AS orders,
  COUNT(DISTINCT o.customer_id) AS customers,
  AVG(o.total_amount) AS mean
FROM orders o
JOIN customers c ON c.customer_id = o.customer_id
WHERE c.region IS NOT NULL AND o.order_date IS NOT NULL
GROUP BY 1, 2
