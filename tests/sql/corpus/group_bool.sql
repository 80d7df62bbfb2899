-- writes: postgres t_group_bool
-- key: kind
-- postgres: yes
SELECT kind, BOOL_AND(flag) AS every, BOOL_OR(flag) AS some FROM events WHERE kind IS NOT NULL GROUP BY kind
