-- Orders and revenue per window, customer tier and product category. Every order is counted once:
-- it belongs to the category of its first line, because joining totals to lines would multiply them.
-- Orders are summed up per 5 minutes first; the longer windows are sums of those.
-- An order with a date that date_bin can't count in nanoseconds, such as 9999-12-31, is in no window.
-- writes: postgres cdc_order_stats
-- key: window_size, window_start, customer_tier, product_category
WITH first_lines AS (
  SELECT order_id, MIN(item_id) AS item_id
  FROM order_items
  GROUP BY order_id
),
five_minutes AS (
  SELECT
    date_bin(INTERVAL '5 minutes', o.order_date, TIMESTAMP '1970-01-01 00:00:00') AS bin_start,
    COALESCE(c.tier, 'UNKNOWN') AS customer_tier,
    COALESCE(p.category, 'UNKNOWN') AS product_category,
    COUNT(*) AS order_count,
    SUM(o.total_amount) AS total_revenue
  FROM orders o
  LEFT JOIN customers c ON c.customer_id = o.customer_id
  LEFT JOIN first_lines f ON f.order_id = o.order_id
  LEFT JOIN order_items i ON i.item_id = f.item_id
  LEFT JOIN products p ON p.product_id = i.product_id
  WHERE o.order_date >= TIMESTAMP '1678-01-01 00:00:00' AND o.order_date < TIMESTAMP '2262-01-01 00:00:00'
  GROUP BY 1, 2, 3
),
windowed AS (
  SELECT
    s.window_size,
    CASE s.window_size
      WHEN '5 minutes' THEN b.bin_start
      WHEN '1 hour' THEN date_bin(INTERVAL '1 hour', b.bin_start, TIMESTAMP '1970-01-01 00:00:00')
      ELSE date_bin(INTERVAL '1 day', b.bin_start, TIMESTAMP '1970-01-01 00:00:00')
    END AS window_start,
    CASE s.window_size
      WHEN '5 minutes' THEN INTERVAL '5 minutes'
      WHEN '1 hour' THEN INTERVAL '1 hour'
      ELSE INTERVAL '1 day'
    END AS window_length,
    b.customer_tier, b.product_category, b.order_count, b.total_revenue
  FROM five_minutes b
  CROSS JOIN (VALUES ('5 minutes'), ('1 hour'), ('1 day')) AS s (window_size)
)
SELECT
  window_size,
  window_start,
  window_start + window_length AS window_end,
  customer_tier,
  product_category,
  CAST(SUM(order_count) AS BIGINT) AS order_count,
  CAST(SUM(total_revenue) AS DECIMAL(25,2)) AS total_revenue,
  CAST(ROUND(CAST(SUM(total_revenue) AS DECIMAL(25,2)) / SUM(order_count), 2) AS DECIMAL(15,2)) AS avg_order_value,
  COALESCE(window_start + window_length <= watermark(), FALSE) AS is_final
FROM windowed
GROUP BY window_size, window_start, window_length, customer_tier, product_category
