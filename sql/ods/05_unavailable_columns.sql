-- A change does not carry a LOB that it did not touch (Debezium's unavailable value). History then has NULL, and
-- the column's name in unavailable_columns; the current row has the value of the newest change that carried it.

ALTER TABLE cdc_orders ADD COLUMN unavailable_columns JSONB;
ALTER TABLE cdc_order_items ADD COLUMN unavailable_columns JSONB;
ALTER TABLE cdc_customers ADD COLUMN unavailable_columns JSONB;
ALTER TABLE cdc_products ADD COLUMN unavailable_columns JSONB;
ALTER TABLE cdc_audit_log ADD COLUMN unavailable_columns JSONB;

CREATE OR REPLACE VIEW cdc_orders_current AS
SELECT order_id, customer_id, order_date, status, total_amount,
  CASE WHEN unavailable_columns ? 'shipping_info' THEN (
    SELECT CASE WHEN older.operation <> 'd' THEN older.shipping_info END
    FROM cdc_orders older
    WHERE older.order_id = newest.order_id AND older.change_seq < newest.change_seq
      AND (older.operation = 'd' OR NOT COALESCE(older.unavailable_columns ? 'shipping_info', false))
    ORDER BY older.change_seq DESC LIMIT 1
  ) ELSE shipping_info END AS shipping_info,
  created_at, updated_at, source_ts, extra_fields, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (order_id) * FROM cdc_orders ORDER BY order_id, change_seq DESC) newest
WHERE operation <> 'd';
