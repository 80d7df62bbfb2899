-- writes: postgres t_group_string_agg_descending
-- key: kind
SELECT kind, STRING_AGG(note, '|' ORDER BY happened DESC NULLS LAST, event_id) AS notes
FROM events
WHERE kind IS NOT NULL
GROUP BY kind
