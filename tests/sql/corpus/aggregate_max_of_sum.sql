-- writes: postgres t_aggregate_max_of_sum
-- key: one
-- postgres: yes
SELECT 1 AS one, MAX(total) AS best FROM (SELECT customer_id, SUM(amount) AS total FROM orders GROUP BY customer_id) t
