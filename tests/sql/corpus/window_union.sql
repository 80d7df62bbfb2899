-- writes: postgres t_window_union
-- key: src, id
-- postgres: yes
SELECT 'o' AS src, order_id AS id
FROM orders
WHERE placed <= watermark()
UNION ALL SELECT 'e', event_id
FROM events
WHERE happened <= watermark()
