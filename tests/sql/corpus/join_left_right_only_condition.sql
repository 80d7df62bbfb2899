-- writes: postgres t_join_left_right_only_condition
-- key: customer_id, order_id
-- postgres: yes
SELECT c.customer_id, COALESCE(o.order_id, -1) AS order_id FROM customers c LEFT JOIN orders o ON o.customer_id = c.customer_id AND o.status = 'NEW'
