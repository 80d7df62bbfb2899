-- writes: postgres t_join_nothing
-- key: order_id
-- postgres: yes
SELECT o.order_id, e.event_id
FROM orders o
LEFT JOIN (SELECT event_id FROM events WHERE 1 = 0) e ON e.event_id = o.order_id
