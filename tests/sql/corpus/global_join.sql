-- writes: postgres t_global_join
-- key: one
-- postgres: yes
SELECT 1 AS one, t.*
FROM (SELECT COUNT(*) AS n, MAX(i.price) AS top, SUM(o.amount) AS total FROM items i JOIN orders o ON o.order_id = i.order_id) t
