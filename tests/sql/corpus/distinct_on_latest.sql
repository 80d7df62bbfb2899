-- writes: postgres t_distinct_on_latest
-- key: kind
-- postgres: yes
SELECT DISTINCT ON (kind) kind, event_id, note
FROM events
WHERE kind IS NOT NULL
ORDER BY kind, happened DESC NULLS LAST, event_id
