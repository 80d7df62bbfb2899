-- writes: postgres t_global_count
-- key: one
-- postgres: yes
SELECT 1 AS one, n, total FROM (SELECT COUNT(*) AS n, SUM(amount) AS total FROM orders) t
