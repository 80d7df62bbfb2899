-- writes: postgres t_group_first_ignoring_nulls
-- key: kind
SELECT kind, FIRST_VALUE(note ORDER BY event_id) IGNORE NULLS AS first
FROM events
WHERE kind IS NOT NULL
GROUP BY kind
