-- writes: postgres bench_large_orders
-- key: order_id
SELECT o.order_id, c.name, o.total_amount
FROM orders o
LEFT JOIN customers c ON c.customer_id = o.customer_id
WHERE o.total_amount > 900
