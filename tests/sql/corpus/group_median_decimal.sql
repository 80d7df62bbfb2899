-- writes: postgres t_group_median_decimal
-- key: customer_id
SELECT customer_id, MEDIAN(amount) AS middle, COUNT(DISTINCT amount) AS amounts, AVG(DISTINCT order_id) AS mean
FROM orders
WHERE customer_id IS NOT NULL
GROUP BY customer_id
