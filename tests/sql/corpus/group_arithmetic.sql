-- writes: postgres t_group_arithmetic
-- key: order_id
-- postgres: yes
SELECT order_id, SUM(price * quantity) AS total, MAX(price) - MIN(price) AS spread, SUM(quantity) + COUNT(*) AS s
FROM items
WHERE order_id IS NOT NULL
GROUP BY order_id
