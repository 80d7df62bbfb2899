-- Orders and revenue per window, customer tier and product category. Every order is counted once:
-- it belongs to the category of its first line, because joining totals to lines would multiply them.
-- writes: postgres cdc_order_stats
-- key: window_size, window_start, customer_tier, product_category
WITH first_lines AS (
  SELECT order_id, MIN(item_id) AS item_id
  FROM order_items
  GROUP BY order_id
),
facts AS (
  SELECT
    o.order_date,
    o.total_amount,
    COALESCE(c.tier, 'UNKNOWN') AS customer_tier,
    COALESCE(p.category, 'UNKNOWN') AS product_category
  FROM orders o
  LEFT JOIN customers c ON c.customer_id = o.customer_id
  LEFT JOIN first_lines f ON f.order_id = o.order_id
  LEFT JOIN order_items i ON i.item_id = f.item_id
  LEFT JOIN products p ON p.product_id = i.product_id
  WHERE o.order_date IS NOT NULL
),
windowed AS (
  SELECT
    '5 minutes' AS window_size,
    date_bin(INTERVAL '5 minutes', order_date, TIMESTAMP '1970-01-01 00:00:00') AS window_start,
    date_bin(INTERVAL '5 minutes', order_date, TIMESTAMP '1970-01-01 00:00:00') + INTERVAL '5 minutes' AS window_end,
    customer_tier, product_category, total_amount
  FROM facts
  UNION ALL
  SELECT
    '1 hour',
    date_bin(INTERVAL '1 hour', order_date, TIMESTAMP '1970-01-01 00:00:00'),
    date_bin(INTERVAL '1 hour', order_date, TIMESTAMP '1970-01-01 00:00:00') + INTERVAL '1 hour',
    customer_tier, product_category, total_amount
  FROM facts
  UNION ALL
  SELECT
    '1 day',
    date_bin(INTERVAL '1 day', order_date, TIMESTAMP '1970-01-01 00:00:00'),
    date_bin(INTERVAL '1 day', order_date, TIMESTAMP '1970-01-01 00:00:00') + INTERVAL '1 day',
    customer_tier, product_category, total_amount
  FROM facts
)
SELECT
  window_size,
  window_start,
  window_end,
  customer_tier,
  product_category,
  COUNT(*) AS order_count,
  CAST(SUM(total_amount) AS DECIMAL(25,2)) AS total_revenue,
  CAST(ROUND(SUM(total_amount) / COUNT(*), 2) AS DECIMAL(15,2)) AS avg_order_value,
  window_end <= watermark() AS is_final
FROM windowed
GROUP BY window_size, window_start, window_end, customer_tier, product_category
