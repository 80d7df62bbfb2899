-- writes: postgres t_not_exists_anywhere
-- key: customer_id
-- broken: must either specify a row count or at least one column
-- postgres: yes
SELECT c.customer_id
FROM customers c
WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.kind = 'click')
