-- Every change of an order, as an event.
-- writes: rest /api/v1/events
-- key: order_id
-- payload: event ORDER
SELECT * FROM orders_changes
