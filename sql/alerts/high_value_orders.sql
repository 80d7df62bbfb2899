-- An order over 10,000 of a GOLD customer, once per order.
-- writes: rest /api/v1/notifications
-- key: order_id
-- sends: once
-- payload: notification HIGH_VALUE_ORDER HIGH
SELECT
  o.order_id, o.customer_id, c.name AS customer_name, c.tier AS customer_tier, o.total_amount AS amount,
  CAST(10000 AS DECIMAL(15,2)) AS threshold, o.order_date
FROM orders o
JOIN customers c ON c.customer_id = o.customer_id
WHERE c.tier = 'GOLD' AND o.total_amount > 10000
