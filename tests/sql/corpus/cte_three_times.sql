-- writes: postgres t_cte_three_times
-- key: customer_id
-- postgres: yes
WITH n AS (SELECT customer_id, COUNT(*) AS orders FROM orders GROUP BY customer_id) SELECT c.customer_id, a.orders AS own, b.orders AS of_referrer
FROM customers c
LEFT JOIN n a ON a.customer_id = c.customer_id
LEFT JOIN n b ON b.customer_id = c.referrer
WHERE EXISTS (SELECT 1 FROM n x WHERE x.orders > c.referrer AND x.customer_id = c.customer_id)
