-- writes: postgres t_cte_twice
-- key: customer_id
-- postgres: yes
WITH spent AS (SELECT customer_id, SUM(amount) AS total FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id) SELECT a.customer_id, a.total, b.total AS of_referrer FROM spent a JOIN customers c ON c.customer_id = a.customer_id LEFT JOIN spent b ON b.customer_id = c.referrer
