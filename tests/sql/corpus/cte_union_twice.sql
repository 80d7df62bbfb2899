-- writes: postgres t_cte_union_twice
-- key: who
WITH u AS (SELECT status AS who FROM orders UNION ALL SELECT tier FROM customers) SELECT a.who, COUNT(*) AS n
FROM u a
JOIN u b ON a.who = b.who
GROUP BY a.who
