-- writes: postgres t_except
-- key: label
-- postgres: yes
SELECT status AS label FROM orders WHERE status IS NOT NULL EXCEPT SELECT kind FROM events
