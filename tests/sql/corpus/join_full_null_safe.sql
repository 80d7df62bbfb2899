-- writes: postgres t_join_full_null_safe
-- key: order_id, customer_id
SELECT COALESCE(o.order_id, -1) AS order_id, COALESCE(c.customer_id, -1) AS customer_id
FROM orders o
FULL JOIN customers c ON (o.status IS NOT DISTINCT FROM c.tier)
