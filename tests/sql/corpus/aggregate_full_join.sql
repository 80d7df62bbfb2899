-- writes: postgres t_aggregate_full_join
-- key: tier
-- postgres: yes
SELECT COALESCE(c.tier, '-') AS tier, COUNT(o.order_id) AS orders, COUNT(c.customer_id) AS customers, MIN(o.amount) AS low
FROM orders o
FULL JOIN customers c ON c.customer_id = o.customer_id
GROUP BY 1
