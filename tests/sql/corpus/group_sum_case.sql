-- writes: postgres t_group_sum_case
-- key: customer_id
SELECT customer_id, SUM(CASE WHEN status = 'NEW' THEN 1 ELSE 0 END) AS fresh, MAX(CASE WHEN amount > 0 THEN status END) AS last
FROM orders
WHERE customer_id IS NOT NULL
GROUP BY customer_id
