-- writes: postgres t_exists_self
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, c.name
FROM customers c
WHERE EXISTS (SELECT 1 FROM customers r WHERE r.referrer = c.customer_id)
