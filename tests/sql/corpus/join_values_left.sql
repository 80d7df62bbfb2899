-- writes: postgres t_join_values_left
-- key: k
SELECT v.k, COUNT(o.order_id) AS n
FROM (VALUES ('NEW'), ('PAID'), ('none')) AS v (k)
LEFT JOIN orders o ON o.status = v.k
GROUP BY v.k
