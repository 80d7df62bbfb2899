-- writes: postgres t_intersect
-- key: label
-- postgres: yes
SELECT status AS label FROM orders WHERE status IS NOT NULL INTERSECT SELECT kind FROM events
