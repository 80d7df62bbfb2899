-- writes: postgres t_join_time
-- key: order_id, event_id
-- postgres: yes
SELECT o.order_id, e.event_id, e.note
FROM orders o
LEFT JOIN events e ON e.happened = o.placed
WHERE e.event_id IS NOT NULL
