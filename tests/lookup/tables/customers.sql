CREATE TABLE customers (
  customer_id BIGINT PRIMARY KEY,
  name        VARCHAR,
  tier        VARCHAR
) WITH (source = 'SALES.CUSTOMERS', ttl = 'none');
