-- writes: postgres t_over_running
-- key: order_id
SELECT order_id, SUM(amount) OVER (PARTITION BY status ORDER BY order_id) AS running FROM orders
