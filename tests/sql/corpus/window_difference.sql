-- writes: postgres t_window_difference
-- key: event_id
SELECT event_id, watermark() - happened AS age
FROM events
WHERE happened IS NOT NULL
