-- Three or more orders of one customer within a minute: once per customer and minute in which there is such an order.
-- Pairs of orders are joined by customer, so it is the orders of one customer in memory that cost.
-- writes: rest /api/v1/notifications
-- key: customer_id, minute
-- sends: once
-- payload: notification RAPID_ORDERS HIGH
WITH in_a_minute AS (
  SELECT o.order_id, o.customer_id, o.order_date, COUNT(*) AS orders
  FROM orders o
  JOIN orders earlier ON earlier.customer_id = o.customer_id
  WHERE earlier.order_date <= o.order_date AND earlier.order_date > o.order_date - INTERVAL '1 minute'
    AND o.order_date >= TIMESTAMP '1678-01-01 00:00:00' AND o.order_date < TIMESTAMP '2262-01-01 00:00:00'
  GROUP BY o.order_id, o.customer_id, o.order_date
)
SELECT
  customer_id,
  date_bin(INTERVAL '1 minute', order_date, TIMESTAMP '1970-01-01 00:00:00') AS minute,
  MAX(orders) AS orders
FROM in_a_minute
WHERE orders >= 3
GROUP BY customer_id, date_bin(INTERVAL '1 minute', order_date, TIMESTAMP '1970-01-01 00:00:00')
