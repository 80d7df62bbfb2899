-- writes: postgres t_union_all_twice
-- key: status
SELECT COALESCE(status, '-') AS status, COUNT(*) AS n, SUM(x) AS s
FROM (SELECT status, 1 AS x FROM orders UNION ALL SELECT status, 2 FROM orders WHERE amount > 0 UNION ALL SELECT kind, 4 FROM events) t
GROUP BY 1
