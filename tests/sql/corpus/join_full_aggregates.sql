-- writes: postgres t_join_full_aggregates
-- key: spender, referrer
-- postgres: yes
SELECT COALESCE(a.customer_id, -1) AS spender, COALESCE(b.referrer, -1) AS referrer, a.customer_id IS NULL AND b.n IS NULL AS is_nobody, a.spent, b.n
FROM (SELECT customer_id, SUM(amount) AS spent FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id) a
FULL JOIN (SELECT referrer, COUNT(*) AS n FROM customers GROUP BY referrer) b ON b.referrer = a.customer_id
