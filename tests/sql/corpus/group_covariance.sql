-- writes: postgres t_group_covariance
-- key: kind
SELECT kind, COVAR_POP(score, event_id) AS together, VAR_SAMP(score) AS alone, STDDEV_POP(event_id) AS deviation
FROM events
WHERE kind IS NOT NULL
GROUP BY kind
