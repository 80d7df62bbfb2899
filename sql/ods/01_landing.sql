-- Landing tables: every change of a source table, appended. change_seq is the order of the changes
-- (the broker's), so the newest row of a key is the one with the highest; event_id is the message.
-- The _current views show the newest row of each key, without the deleted ones.

CREATE TABLE cdc_orders (
  order_id      BIGINT NOT NULL,
  customer_id   BIGINT,
  order_date    TIMESTAMP,
  status        TEXT,
  total_amount  NUMERIC(15,2),
  shipping_info TEXT,
  created_at    TIMESTAMP,
  updated_at    TIMESTAMP,
  operation     TEXT NOT NULL,
  source_ts     TIMESTAMP,
  extra_fields  JSONB,
  event_id      TEXT NOT NULL UNIQUE,
  change_seq    BIGINT NOT NULL,
  processed_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_orders_newest ON cdc_orders (order_id, change_seq DESC);
CREATE VIEW cdc_orders_current AS
SELECT order_id, customer_id, order_date, status, total_amount, shipping_info, created_at, updated_at, source_ts, extra_fields, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (order_id) * FROM cdc_orders ORDER BY order_id, change_seq DESC) newest
WHERE operation <> 'd';

CREATE TABLE cdc_order_items (
  item_id      BIGINT NOT NULL,
  order_id     BIGINT,
  product_id   BIGINT,
  quantity     INTEGER,
  unit_price   NUMERIC(10,2),
  subtotal     NUMERIC(15,2),
  operation    TEXT NOT NULL,
  source_ts    TIMESTAMP,
  extra_fields JSONB,
  event_id     TEXT NOT NULL UNIQUE,
  change_seq   BIGINT NOT NULL,
  processed_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_order_items_newest ON cdc_order_items (item_id, change_seq DESC);
CREATE VIEW cdc_order_items_current AS
SELECT item_id, order_id, product_id, quantity, unit_price, subtotal, source_ts, extra_fields, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (item_id) * FROM cdc_order_items ORDER BY item_id, change_seq DESC) newest
WHERE operation <> 'd';

CREATE TABLE cdc_customers (
  customer_id  BIGINT NOT NULL,
  name         TEXT,
  email        TEXT,
  tier         TEXT,
  region       TEXT,
  created_at   TIMESTAMP,
  operation    TEXT NOT NULL,
  source_ts    TIMESTAMP,
  extra_fields JSONB,
  event_id     TEXT NOT NULL UNIQUE,
  change_seq   BIGINT NOT NULL,
  processed_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_customers_newest ON cdc_customers (customer_id, change_seq DESC);
CREATE VIEW cdc_customers_current AS
SELECT customer_id, name, email, tier, region, created_at, source_ts, extra_fields, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (customer_id) * FROM cdc_customers ORDER BY customer_id, change_seq DESC) newest
WHERE operation <> 'd';

CREATE TABLE cdc_products (
  product_id   BIGINT NOT NULL,
  name         TEXT,
  category     TEXT,
  price        NUMERIC(10,2),
  stock_qty    BIGINT,
  is_active    BOOLEAN,
  operation    TEXT NOT NULL,
  source_ts    TIMESTAMP,
  extra_fields JSONB,
  event_id     TEXT NOT NULL UNIQUE,
  change_seq   BIGINT NOT NULL,
  processed_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_products_newest ON cdc_products (product_id, change_seq DESC);
CREATE VIEW cdc_products_current AS
SELECT product_id, name, category, price, stock_qty, is_active, source_ts, extra_fields, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (product_id) * FROM cdc_products ORDER BY product_id, change_seq DESC) newest
WHERE operation <> 'd';

-- The source has a column OPERATION of its own; what happened to the row is in cdc_operation.
CREATE TABLE cdc_audit_log (
  log_id        BIGINT NOT NULL,
  table_name    TEXT,
  operation     TEXT,
  record_id     BIGINT,
  changed_by    TEXT,
  changed_at    TIMESTAMP,
  cdc_operation TEXT NOT NULL,
  source_ts     TIMESTAMP,
  extra_fields  JSONB,
  event_id      TEXT NOT NULL UNIQUE,
  change_seq    BIGINT NOT NULL,
  processed_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_audit_log_newest ON cdc_audit_log (log_id, change_seq DESC);
CREATE VIEW cdc_audit_log_current AS
SELECT log_id, table_name, operation, record_id, changed_by, changed_at, source_ts, extra_fields, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (log_id) * FROM cdc_audit_log ORDER BY log_id, change_seq DESC) newest
WHERE cdc_operation <> 'd';
