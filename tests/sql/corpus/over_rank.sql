-- writes: postgres t_over_rank
-- key: order_id
-- postgres: yes
SELECT order_id, customer_id, ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY order_id) AS nth FROM orders
