-- Every change of an order item, in the order of its order.
-- writes: rest /api/v1/order-items
-- key: order_id
-- payload: event ORDER_ITEM
SELECT * FROM order_items_changes
