-- writes: postgres t_nothing
-- key: a
-- postgres: yes
SELECT 1 AS a, 'constant' AS b
