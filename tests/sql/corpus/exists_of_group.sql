-- writes: postgres t_exists_of_group
-- key: status
SELECT status, COUNT(*) AS n
FROM orders
WHERE status IS NOT NULL
GROUP BY status
HAVING EXISTS (SELECT 1 FROM customers c WHERE c.tier = status)
