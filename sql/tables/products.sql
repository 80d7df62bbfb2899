-- A dimension: orders of any age need it, so it never expires.
CREATE TABLE products (
  product_id BIGINT PRIMARY KEY,
  name       VARCHAR,
  category   VARCHAR,
  price      DECIMAL(10,2),
  stock_qty  BIGINT,
  is_active  BOOLEAN
) WITH (source = 'SALES.PRODUCTS', ttl = 'none', encodings = 'price text');
