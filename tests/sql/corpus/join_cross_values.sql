-- writes: postgres t_join_cross_values
-- key: order_id, factor
-- postgres: yes
SELECT o.order_id, v.factor, o.amount * v.factor AS scaled FROM orders o CROSS JOIN (VALUES (1), (2), (5)) AS v (factor)
