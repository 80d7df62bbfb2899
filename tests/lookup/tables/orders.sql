CREATE TABLE orders (
  order_id    BIGINT PRIMARY KEY,
  customer_id BIGINT,
  status      VARCHAR
) WITH (source = 'SALES.ORDERS');
