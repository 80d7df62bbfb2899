-- writes: postgres t_window_having_final
-- key: customer_id
-- postgres: yes
SELECT customer_id, COUNT(*) AS n, MAX(placed) AS last
FROM orders
WHERE customer_id IS NOT NULL
GROUP BY customer_id
HAVING MAX(placed) <= watermark()
