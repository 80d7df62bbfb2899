-- writes: postgres t_group_having
-- key: customer_id
-- postgres: yes
SELECT customer_id, COUNT(*) AS n FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id HAVING COUNT(*) > 1 AND SUM(amount) > 10
