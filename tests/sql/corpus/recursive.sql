-- writes: postgres t_recursive
-- key: n
-- postgres: yes
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 4) SELECT r.n, COUNT(o.order_id) AS orders FROM r LEFT JOIN orders o ON o.order_id = r.n GROUP BY r.n
