-- writes: postgres t_not_in_text
-- key: customer_id
-- postgres: yes
SELECT customer_id, tier
FROM customers
WHERE tier NOT IN (SELECT status FROM orders WHERE status IS NOT NULL)
