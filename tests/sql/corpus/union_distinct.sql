-- writes: postgres t_union_distinct
-- key: label
-- postgres: yes
SELECT status AS label FROM orders WHERE status IS NOT NULL UNION SELECT kind FROM events WHERE kind IS NOT NULL
