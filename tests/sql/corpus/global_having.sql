-- writes: postgres t_global_having
-- key: one
-- postgres: yes
SELECT 1 AS one, n
FROM (SELECT COUNT(*) AS n FROM customers HAVING COUNT(*) > 3) t
