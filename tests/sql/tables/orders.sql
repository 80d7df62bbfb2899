CREATE TABLE orders (
  order_id BIGINT PRIMARY KEY, customer_id BIGINT, status VARCHAR, amount DECIMAL(10,2), placed TIMESTAMP
) WITH (source = 'T.ORDERS', event_time = 'placed', ttl = 'none');
