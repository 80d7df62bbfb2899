-- writes: postgres t_join_bool_key
-- key: event_id, product_id
-- postgres: yes
SELECT e.event_id, p.product_id FROM events e JOIN products p ON p.active = e.flag
