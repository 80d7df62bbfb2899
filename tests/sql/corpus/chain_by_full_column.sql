-- writes: postgres t_chain_by_full_column
-- key: item_id, order_id, customer_id
SELECT i.item_id, f.order_id, f.customer_id, f.tier
FROM items i
JOIN join_full f ON f.customer_id = i.order_id
