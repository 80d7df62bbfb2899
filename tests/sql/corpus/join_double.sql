-- writes: postgres t_join_double
-- key: one, other
-- postgres: yes
SELECT a.event_id AS one, b.event_id AS other
FROM events a
JOIN events b ON a.score = b.score
WHERE a.event_id < b.event_id
