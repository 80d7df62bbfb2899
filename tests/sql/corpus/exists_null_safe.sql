-- writes: postgres t_exists_null_safe
-- key: order_id
SELECT o.order_id
FROM orders o
WHERE EXISTS (SELECT 1 FROM customers c WHERE c.tier IS NOT DISTINCT FROM o.status)
