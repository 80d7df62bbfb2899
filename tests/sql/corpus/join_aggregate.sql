-- writes: postgres t_join_aggregate
-- key: order_id
-- postgres: yes
SELECT o.order_id, o.amount, t.lines, t.total FROM orders o LEFT JOIN (SELECT order_id, COUNT(*) AS lines, SUM(price) AS total FROM items GROUP BY order_id) t ON t.order_id = o.order_id
