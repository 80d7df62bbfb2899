-- writes: postgres bench_orders_without_items
-- key: order_id
SELECT o.order_id, o.status
FROM orders o
WHERE NOT EXISTS (SELECT 1 FROM order_items i WHERE i.order_id = o.order_id)
