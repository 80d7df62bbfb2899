-- writes: postgres t_join_left_global
-- key: customer_id
SELECT c.customer_id, t.n
FROM customers c
LEFT JOIN (SELECT COUNT(*) AS n FROM events WHERE flag) t ON TRUE
