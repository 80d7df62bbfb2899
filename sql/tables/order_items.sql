CREATE TABLE order_items (
  item_id    BIGINT PRIMARY KEY,
  order_id   BIGINT REFERENCES orders (order_id),
  product_id BIGINT,
  quantity   INTEGER,
  unit_price DECIMAL(10,2),
  subtotal   DECIMAL(15,2)
) WITH (source = 'SALES.ORDER_ITEMS', ttl = '1h', encodings = 'unit_price text, subtotal text');
