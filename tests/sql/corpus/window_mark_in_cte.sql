-- writes: postgres t_window_mark_in_cte
-- key: order_id
WITH m AS (SELECT watermark() AS mark) SELECT o.order_id
FROM orders o
CROSS JOIN m
WHERE o.placed <= m.mark
