-- writes: postgres t_join_self
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, c.name, r.name AS referrer FROM customers c JOIN customers r ON r.customer_id = c.referrer
