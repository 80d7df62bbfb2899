-- writes: postgres t_group_nth
-- key: kind
SELECT kind, NTH_VALUE(note, 2 ORDER BY event_id) AS second
FROM events
WHERE kind IS NOT NULL
GROUP BY kind
