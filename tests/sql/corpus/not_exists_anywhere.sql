-- writes: postgres t_not_exists_anywhere
-- key: customer_id
-- postgres: yes
SELECT c.customer_id
FROM customers c
WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.kind = 'click')
