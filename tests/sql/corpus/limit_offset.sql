-- writes: postgres t_limit_offset
-- key: customer_id
-- postgres: yes
SELECT customer_id FROM customers ORDER BY customer_id LIMIT 2 OFFSET 1
