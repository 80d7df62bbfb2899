-- writes: postgres t_over_lag
-- key: order_id
-- postgres: yes
SELECT order_id, LAG(status) OVER (PARTITION BY customer_id ORDER BY order_id) AS before, COUNT(*) OVER (PARTITION BY customer_id) AS n
FROM orders
