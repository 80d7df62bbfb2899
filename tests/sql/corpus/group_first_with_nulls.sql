-- writes: postgres t_group_first_with_nulls
-- key: kind
SELECT kind, FIRST_VALUE(note ORDER BY happened NULLS FIRST, event_id) AS first, LAST_VALUE(score ORDER BY happened NULLS FIRST, event_id) AS last
FROM events
WHERE kind IS NOT NULL
GROUP BY kind
