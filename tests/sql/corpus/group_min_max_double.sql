-- writes: postgres t_group_min_max_double
-- key: kind
-- postgres: yes
SELECT kind, MIN(score) AS low, MAX(score) AS high FROM events WHERE kind IS NOT NULL GROUP BY kind
