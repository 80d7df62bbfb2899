-- writes: postgres t_join_expression_modulo
-- key: event_id, customer_id
-- postgres: yes
SELECT e.event_id, c.customer_id FROM events e JOIN customers c ON c.customer_id = e.event_id % 3
