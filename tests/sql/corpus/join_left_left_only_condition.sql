-- writes: postgres t_join_left_left_only_condition
-- key: customer_id, order_id
-- postgres: yes
SELECT c.customer_id, COALESCE(o.order_id, -1) AS order_id FROM customers c LEFT JOIN orders o ON o.customer_id = c.customer_id AND c.tier = 'GOLD'
