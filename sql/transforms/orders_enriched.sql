-- One row per order: its customer, its items counted and summed, its 5-minute window.
-- writes: postgres cdc_orders_enriched
-- key: order_id
WITH items AS (
  SELECT order_id, COUNT(*) AS item_count, SUM(subtotal) AS items_total
  FROM order_items
  GROUP BY order_id
)
SELECT
  o.order_id,
  o.customer_id,
  c.name AS customer_name,
  c.tier AS customer_tier,
  o.total_amount,
  COALESCE(i.item_count, 0) AS item_count,
  CAST(COALESCE(i.items_total, 0) AS DECIMAL(15,2)) AS items_total,
  date_bin(INTERVAL '5 minutes', o.order_date, TIMESTAMP '1970-01-01 00:00:00') AS window_start,
  date_bin(INTERVAL '5 minutes', o.order_date, TIMESTAMP '1970-01-01 00:00:00') + INTERVAL '5 minutes' AS window_end
FROM orders o
LEFT JOIN customers c ON c.customer_id = o.customer_id
LEFT JOIN items i ON i.order_id = o.order_id
