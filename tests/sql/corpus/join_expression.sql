-- writes: postgres t_join_expression
-- key: order_id, product_id
-- postgres: yes
SELECT o.order_id, p.product_id FROM orders o JOIN products p ON p.product_id = o.order_id + 1
