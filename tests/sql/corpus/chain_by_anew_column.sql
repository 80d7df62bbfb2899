-- writes: postgres t_chain_by_anew_column
-- key: item_id, order_id
SELECT i.item_id, r.order_id
FROM items i
LEFT JOIN over_rank r ON r.nth = i.quantity
WHERE r.order_id IS NOT NULL
