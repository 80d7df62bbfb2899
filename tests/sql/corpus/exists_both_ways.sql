-- writes: postgres t_exists_both_ways
-- key: customer_id
-- postgres: yes
SELECT c.customer_id
FROM customers c
WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id) AND NOT EXISTS (SELECT 1 FROM customers r WHERE r.referrer = c.customer_id)
