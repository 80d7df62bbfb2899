-- writes: postgres t_group_time_key
-- key: happened
-- postgres: yes
SELECT happened, COUNT(*) AS n, COUNT(note) AS notes, COUNT(DISTINCT kind) AS kinds
FROM events
WHERE happened IS NOT NULL
GROUP BY happened
