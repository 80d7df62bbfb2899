-- writes: postgres t_group_count
-- key: status
-- postgres: yes
SELECT COALESCE(status, '-') AS status, COUNT(*) AS n, COUNT(customer_id) AS known FROM orders GROUP BY COALESCE(status, '-')
