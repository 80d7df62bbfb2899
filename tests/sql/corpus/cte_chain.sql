-- writes: postgres t_cte_chain
-- key: tier
WITH lines AS (SELECT order_id, COUNT(*) AS n FROM items GROUP BY order_id), rich AS (SELECT o.customer_id, l.n FROM orders o JOIN lines l ON l.order_id = o.order_id WHERE l.n > 1) SELECT c.tier, SUM(r.n) AS n FROM rich r JOIN customers c ON c.customer_id = r.customer_id WHERE c.tier IS NOT NULL GROUP BY c.tier
