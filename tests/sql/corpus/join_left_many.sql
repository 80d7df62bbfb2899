-- writes: postgres t_join_left_many
-- key: customer_id, order_id
-- postgres: yes
SELECT c.customer_id, COALESCE(o.order_id, -1) AS order_id, o.status FROM customers c LEFT JOIN orders o ON o.customer_id = c.customer_id
