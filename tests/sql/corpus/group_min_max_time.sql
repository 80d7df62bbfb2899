-- writes: postgres t_group_min_max_time
-- key: kind
-- postgres: yes
SELECT kind, MIN(happened) AS first, MAX(happened) AS last FROM events WHERE kind IS NOT NULL GROUP BY kind
