-- writes: postgres t_global_many
-- key: one
-- postgres: yes
SELECT 1 AS one, t.*
FROM (SELECT COUNT(*) AS n, COUNT(DISTINCT status) AS statuses, MIN(placed) AS first, MAX(amount) AS top, SUM(customer_id) AS ids FROM orders WHERE amount > 40) t
