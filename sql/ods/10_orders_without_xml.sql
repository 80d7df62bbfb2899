-- The XML of orders does not land: [[xml]] sections read rows out of it (docs/XML.md). A table that has rows keeps its column.

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM cdc_orders) THEN
    DROP VIEW cdc_orders_current;
    ALTER TABLE cdc_orders DROP COLUMN shipping_info;
    CREATE VIEW cdc_orders_current AS
    SELECT order_id, customer_id, order_date, status, total_amount, created_at, updated_at, source_ts, extra_fields, event_id, change_seq, processed_at
    FROM (SELECT DISTINCT ON (order_id) * FROM cdc_orders ORDER BY order_id, change_seq DESC) newest
    WHERE operation <> 'd';
  END IF;
END $$;
