-- writes: postgres t_union_then_except
-- key: label
-- postgres: yes
(SELECT status AS label FROM orders WHERE status IS NOT NULL UNION SELECT kind FROM events WHERE kind IS NOT NULL)
EXCEPT SELECT tier
FROM customers
WHERE tier IS NOT NULL
