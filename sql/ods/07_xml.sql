-- Rows of the [[xml]] mappings in docker/tidemark.toml: every change of a row, as in the landing tables of source tables. row_no is the
-- number of the row in its document.

CREATE TABLE cdc_order_items_extracted (
  order_id       BIGINT NOT NULL,
  row_no         INTEGER NOT NULL,
  product_id     BIGINT,
  quantity       INTEGER,
  price          NUMERIC(10,2),
  subtotal       NUMERIC(15,2) GENERATED ALWAYS AS (quantity * price) STORED,
  carrier        TEXT,
  extracted_from TEXT,
  operation      TEXT NOT NULL,
  source_ts      TIMESTAMP,
  extra_fields   JSONB,
  event_id       TEXT NOT NULL UNIQUE,
  change_seq     BIGINT NOT NULL,
  processed_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_order_items_extracted_newest ON cdc_order_items_extracted (order_id, row_no, change_seq DESC);
CREATE VIEW cdc_order_items_extracted_current AS
SELECT order_id, row_no, product_id, quantity, price, subtotal, carrier, extracted_from, source_ts, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (order_id, row_no) * FROM cdc_order_items_extracted ORDER BY order_id, row_no, change_seq DESC) newest
WHERE operation <> 'd';

CREATE TABLE cdc_order_details_extracted (
  order_id       BIGINT NOT NULL,
  row_no         INTEGER NOT NULL,
  product_id     BIGINT,
  product_name   TEXT,
  quantity       INTEGER,
  price          NUMERIC(10,2),
  subtotal       NUMERIC(15,2) GENERATED ALWAYS AS (quantity * price) STORED,
  extracted_from TEXT,
  operation      TEXT NOT NULL,
  source_ts      TIMESTAMP,
  extra_fields   JSONB,
  event_id       TEXT NOT NULL UNIQUE,
  change_seq     BIGINT NOT NULL,
  processed_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_order_details_extracted_newest ON cdc_order_details_extracted (order_id, row_no, change_seq DESC);
CREATE VIEW cdc_order_details_extracted_current AS
SELECT order_id, row_no, product_id, product_name, quantity, price, subtotal, extracted_from, source_ts, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (order_id, row_no) * FROM cdc_order_details_extracted ORDER BY order_id, row_no, change_seq DESC) newest
WHERE operation <> 'd';

CREATE TABLE cdc_customer_addresses_extracted (
  customer_id    BIGINT NOT NULL,
  row_no         INTEGER NOT NULL,
  address_type   TEXT,
  street         TEXT,
  city           TEXT,
  zip            TEXT,
  country        TEXT,
  extracted_from TEXT,
  operation      TEXT NOT NULL,
  source_ts      TIMESTAMP,
  extra_fields   JSONB,
  event_id       TEXT NOT NULL UNIQUE,
  change_seq     BIGINT NOT NULL,
  processed_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_customer_addresses_extracted_newest ON cdc_customer_addresses_extracted (customer_id, row_no, change_seq DESC);
CREATE VIEW cdc_customer_addresses_extracted_current AS
SELECT customer_id, row_no, address_type, street, city, zip, country, extracted_from, source_ts, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (customer_id, row_no) * FROM cdc_customer_addresses_extracted ORDER BY customer_id, row_no, change_seq DESC) newest
WHERE operation <> 'd';
