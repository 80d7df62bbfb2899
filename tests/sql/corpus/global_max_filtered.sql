-- writes: postgres t_global_max_filtered
-- key: one
-- postgres: yes
SELECT 1 AS one, top FROM (SELECT MAX(amount) AS top FROM orders WHERE status = 'PAID') t
