-- writes: postgres t_join_text_key
-- key: event_id, order_id
-- postgres: yes
SELECT e.event_id, o.order_id FROM events e JOIN orders o ON o.status = e.kind
