-- writes: postgres t_join_union
-- key: id, customer_id
-- postgres: yes
SELECT u.id, c.customer_id, c.tier FROM (SELECT order_id AS id, customer_id FROM orders UNION ALL SELECT event_id + 100 AS id, event_id % 4 AS customer_id FROM events) u JOIN customers c ON c.customer_id = u.customer_id
