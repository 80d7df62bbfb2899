-- writes: postgres t_group_filter
-- key: customer_id
-- postgres: yes
SELECT customer_id, COUNT(*) FILTER (WHERE status = 'NEW') AS fresh, SUM(amount) FILTER (WHERE status <> 'NEW') AS rest, MAX(placed) FILTER (WHERE amount > 10) AS last FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id
