-- writes: postgres t_exists_anywhere
-- key: customer_id
-- broken: must either specify a row count or at least one column
-- postgres: yes
SELECT c.customer_id
FROM customers c
WHERE EXISTS (SELECT 1 FROM events e WHERE e.flag)
