-- Each order with its customer as of the order's last change.
-- writes: postgres cdc_orders_as_placed
-- key: order_id
-- lookup: customers
SELECT o.order_id, o.status, c.name, c.tier
FROM orders o
LEFT JOIN customers c ON c.customer_id = o.customer_id
