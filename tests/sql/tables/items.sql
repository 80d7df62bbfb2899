CREATE TABLE items (
  item_id BIGINT PRIMARY KEY, order_id BIGINT, product_id BIGINT, quantity INTEGER, price DECIMAL(10,2)
) WITH (source = 'T.ITEMS', ttl = 'none');
