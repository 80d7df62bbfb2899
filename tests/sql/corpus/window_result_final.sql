-- writes: postgres t_window_result_final
-- key: window_start
SELECT window_start, n, total
FROM window_five_minutes
WHERE window_start + INTERVAL '5 minutes' <= watermark()
