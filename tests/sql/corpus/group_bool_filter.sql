-- writes: postgres t_group_bool_filter
-- key: kind
-- postgres: yes
SELECT kind, BOOL_AND(score > 0.1) AS every, BOOL_OR(flag) FILTER (WHERE note = 'x') AS some
FROM events
WHERE kind IS NOT NULL
GROUP BY kind
