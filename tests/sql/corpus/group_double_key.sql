-- writes: postgres t_group_double_key
-- key: score
-- postgres: yes
SELECT score, COUNT(*) AS n, MAX(event_id) AS last
FROM events
WHERE score IS NOT NULL
GROUP BY score
