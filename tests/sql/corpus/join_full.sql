-- writes: postgres t_join_full
-- key: order_id, customer_id
-- postgres: yes
SELECT COALESCE(o.order_id, -1) AS order_id, COALESCE(c.customer_id, -1) AS customer_id, o.status, c.tier FROM orders o FULL JOIN customers c ON c.customer_id = o.customer_id
