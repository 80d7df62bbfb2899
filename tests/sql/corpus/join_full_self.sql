-- writes: postgres t_join_full_self
-- key: customer_id, referrer_id
-- postgres: yes
SELECT COALESCE(c.customer_id, -1) AS customer_id, COALESCE(r.customer_id, -1) AS referrer_id, c.name, r.tier
FROM customers c
FULL JOIN customers r ON r.customer_id = c.referrer
