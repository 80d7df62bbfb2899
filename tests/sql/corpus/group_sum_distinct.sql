-- writes: postgres t_group_sum_distinct
-- key: order_id
-- postgres: yes
SELECT order_id, SUM(DISTINCT quantity) AS q FROM items WHERE order_id IS NOT NULL GROUP BY order_id
