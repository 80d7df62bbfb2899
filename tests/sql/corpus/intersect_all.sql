-- writes: postgres t_intersect_all
-- key: label
SELECT label, COUNT(*) AS n
FROM (SELECT status AS label FROM orders INTERSECT ALL SELECT kind FROM events) t
WHERE label IS NOT NULL
GROUP BY label
