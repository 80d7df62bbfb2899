-- writes: postgres t_aggregate_three_levels
-- key: customers
-- postgres: yes
SELECT customers, COUNT(*) AS n, MAX(orders) AS most
FROM (SELECT orders, COUNT(*) AS customers FROM (SELECT customer_id, COUNT(*) AS orders FROM orders GROUP BY customer_id) t GROUP BY orders) s
GROUP BY customers
