-- writes: postgres t_join_null_safe
-- key: order_id, customer_id
-- postgres: yes
SELECT o.order_id, c.customer_id FROM orders o JOIN customers c ON o.status IS NOT DISTINCT FROM c.tier
