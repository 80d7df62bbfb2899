-- writes: postgres t_union_all
-- key: src, id
-- postgres: yes
SELECT 'order' AS src, order_id AS id, status AS label FROM orders UNION ALL SELECT 'event', event_id, kind FROM events
