-- writes: postgres t_project_case
-- key: order_id
-- postgres: yes
SELECT order_id, CASE WHEN amount >= 50 THEN 'large' WHEN amount IS NULL THEN 'none' ELSE 'small' END AS size FROM orders
