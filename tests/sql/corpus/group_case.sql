-- writes: postgres t_group_case
-- key: size
-- postgres: yes
SELECT CASE WHEN amount >= 25 THEN 'large' WHEN amount < 0 THEN 'owed' ELSE 'other' END AS size, COUNT(*) AS n, MIN(amount) AS low
FROM orders
GROUP BY 1
