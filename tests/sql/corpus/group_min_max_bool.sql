-- writes: postgres t_group_min_max_bool
-- key: kind
SELECT kind, MIN(flag) AS low, MAX(flag) AS high
FROM events
WHERE kind IS NOT NULL
GROUP BY kind
