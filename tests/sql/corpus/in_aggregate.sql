-- writes: postgres t_in_aggregate
-- key: order_id
-- postgres: yes
SELECT order_id, status
FROM orders
WHERE order_id IN (SELECT order_id FROM items GROUP BY order_id HAVING COUNT(*) > 1)
