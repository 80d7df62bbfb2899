-- writes: postgres t_group_statistics
-- key: kind
SELECT kind, STDDEV(score) AS deviation, MEDIAN(score) AS middle, VAR_POP(score) AS variance FROM events WHERE kind IS NOT NULL GROUP BY kind
