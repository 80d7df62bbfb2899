-- writes: postgres t_group_sum_decimal
-- key: customer_id
SELECT customer_id, SUM(amount) AS total, AVG(amount) AS mean FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id
