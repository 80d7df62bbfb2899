-- writes: postgres t_exists_distinct
-- key: status
-- postgres: yes
SELECT DISTINCT o.status
FROM orders o
WHERE o.status IS NOT NULL AND EXISTS (SELECT 1 FROM items i WHERE i.order_id = o.order_id)
