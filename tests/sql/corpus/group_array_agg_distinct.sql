-- writes: postgres t_group_array_agg_distinct
-- key: kind
SELECT kind, FIRST_VALUE(event_id ORDER BY score DESC NULLS LAST, event_id) AS best, ARRAY_AGG(DISTINCT note ORDER BY note) AS notes
FROM events
WHERE kind IS NOT NULL
GROUP BY kind
