-- The items of an order that ttl dropped from memory are read back by their order.
CREATE INDEX cdc_order_items_order ON cdc_order_items (order_id);
