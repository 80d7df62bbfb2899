-- writes: postgres t_window_case_of_join
-- key: status
SELECT x.status, SUM(x.w) AS w
FROM (SELECT COALESCE(o.status, '-') AS status, CASE WHEN o.placed <= watermark() THEN i.quantity ELSE 0 END AS w FROM orders o JOIN items i ON i.order_id = o.order_id) x
GROUP BY x.status
