-- writes: postgres t_join_multiset
-- key: tier, category
-- postgres: yes
SELECT COALESCE(c.tier, '-') AS tier, COALESCE(p.category, '-') AS category, COUNT(*) AS n
FROM customers c
FULL JOIN products p ON p.stock = c.referrer
GROUP BY 1, 2
