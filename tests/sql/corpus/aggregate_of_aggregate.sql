-- writes: postgres t_aggregate_of_aggregate
-- key: orders
-- postgres: yes
SELECT n AS orders, COUNT(*) AS customers FROM (SELECT customer_id, COUNT(*) AS n FROM orders GROUP BY customer_id) t GROUP BY n
