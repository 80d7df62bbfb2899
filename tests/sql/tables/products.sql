CREATE TABLE products (
  product_id BIGINT PRIMARY KEY, category VARCHAR, stock BIGINT, active BOOLEAN
) WITH (source = 'T.PRODUCTS', ttl = 'none');
