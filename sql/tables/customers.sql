-- A dimension: orders of any age need it, so it never expires.
CREATE TABLE customers (
  customer_id BIGINT PRIMARY KEY,
  name        VARCHAR,
  email       VARCHAR,
  tier        VARCHAR,
  region      VARCHAR,
  created_at  TIMESTAMP
) WITH (source = 'SALES.CUSTOMERS', ttl = 'none');
