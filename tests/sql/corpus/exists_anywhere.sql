-- writes: postgres t_exists_anywhere
-- key: customer_id
-- postgres: yes
SELECT c.customer_id
FROM customers c
WHERE EXISTS (SELECT 1 FROM events e WHERE e.flag)
