-- writes: postgres t_scalar_times
-- key: event_id
SELECT event_id, EXTRACT(MINUTE FROM happened) AS minute, happened + INTERVAL '90 seconds' AS later, score BETWEEN 0.1 AND 0.4 AS is_middle
FROM events
