-- writes: postgres t_window_not_exists_outer
-- key: order_id
SELECT o.order_id
FROM orders o
WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.order_id = o.order_id AND i.quantity > 1 AND o.placed <= watermark())
