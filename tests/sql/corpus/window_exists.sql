-- writes: postgres t_window_exists
-- key: customer_id
-- postgres: yes
SELECT c.customer_id
FROM customers c
WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id AND o.placed < watermark())
