-- The results that sql/transforms maintain. processed_at is when a row was last written.

CREATE TABLE cdc_orders_enriched (
  order_id      BIGINT PRIMARY KEY,
  customer_id   BIGINT,
  customer_name TEXT,
  customer_tier TEXT,
  total_amount  NUMERIC(15,2),
  item_count    BIGINT NOT NULL,
  items_total   NUMERIC(15,2) NOT NULL,
  window_start  TIMESTAMP,
  window_end    TIMESTAMP,
  processed_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE cdc_order_lines_enriched (
  item_id          BIGINT PRIMARY KEY,
  order_id         BIGINT NOT NULL,
  order_date       TIMESTAMP,
  order_status     TEXT,
  customer_id      BIGINT,
  customer_name    TEXT,
  customer_tier    TEXT,
  customer_region  TEXT,
  product_id       BIGINT,
  product_name     TEXT,
  product_category TEXT,
  quantity         INTEGER,
  unit_price       NUMERIC(10,2),
  subtotal         NUMERIC(15,2),
  processed_at     TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_order_lines_enriched_order ON cdc_order_lines_enriched (order_id);

CREATE TABLE cdc_order_stats (
  window_size      TEXT NOT NULL,
  window_start     TIMESTAMP NOT NULL,
  window_end       TIMESTAMP NOT NULL,
  customer_tier    TEXT NOT NULL,
  product_category TEXT NOT NULL,
  order_count      BIGINT NOT NULL,
  total_revenue    NUMERIC(25,2),
  avg_order_value  NUMERIC(15,2),
  is_final         BOOLEAN NOT NULL,
  processed_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (window_size, window_start, customer_tier, product_category)
);
