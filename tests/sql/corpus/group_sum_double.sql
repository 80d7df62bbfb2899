-- writes: postgres t_group_sum_double
-- key: kind
SELECT kind, SUM(score) AS total, AVG(score) AS mean FROM events WHERE kind IS NOT NULL GROUP BY kind
