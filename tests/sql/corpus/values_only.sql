-- writes: postgres t_values_only
-- key: a
-- postgres: yes
SELECT * FROM (VALUES (1, 'x'), (2, 'y')) AS v (a, b)
