-- writes: postgres t_watermark_shown
-- key: one
SELECT 1 AS one, watermark() AS mark
