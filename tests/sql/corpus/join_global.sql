-- writes: postgres t_join_global
-- key: order_id
-- postgres: yes
SELECT o.order_id, o.amount, t.top, t.n
FROM orders o
CROSS JOIN (SELECT MAX(amount) AS top, COUNT(*) AS n FROM orders) t
