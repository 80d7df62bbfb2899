-- writes: postgres t_aggregate_union
-- key: who
-- postgres: yes
SELECT who, COUNT(*) AS n FROM (SELECT status AS who FROM orders UNION ALL SELECT kind FROM events UNION ALL SELECT tier FROM customers) u WHERE who IS NOT NULL GROUP BY who
