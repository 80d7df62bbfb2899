-- One row per item, with its order, customer and product.
-- writes: postgres cdc_order_lines_enriched
-- key: item_id
SELECT
  i.item_id,
  o.order_id,
  o.order_date,
  o.status AS order_status,
  o.customer_id,
  c.name AS customer_name,
  c.tier AS customer_tier,
  c.region AS customer_region,
  i.product_id,
  p.name AS product_name,
  p.category AS product_category,
  i.quantity,
  i.unit_price,
  i.subtotal
FROM order_items i
JOIN orders o ON o.order_id = i.order_id
LEFT JOIN customers c ON c.customer_id = o.customer_id
LEFT JOIN products p ON p.product_id = i.product_id
