-- writes: postgres t_group_string_agg_distinct
-- key: kind
SELECT kind, STRING_AGG(DISTINCT note, ',' ORDER BY note) AS notes
FROM events
WHERE kind IS NOT NULL
GROUP BY kind
