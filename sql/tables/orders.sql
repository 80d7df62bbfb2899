-- An order is dropped from memory when it has not changed for `ttl` and all of its windows are closed.
CREATE TABLE orders (
  order_id      BIGINT PRIMARY KEY,
  customer_id   BIGINT,
  order_date    TIMESTAMP,
  status        VARCHAR,
  total_amount  DECIMAL(15,2),
  shipping_info VARCHAR,
  created_at    TIMESTAMP,
  updated_at    TIMESTAMP
) WITH (source = 'SALES.ORDERS', event_time = 'order_date', ttl = '1h');
