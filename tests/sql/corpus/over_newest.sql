-- writes: postgres t_over_newest
-- key: customer_id
-- postgres: yes
SELECT customer_id, order_id
FROM (SELECT customer_id, order_id, ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY placed DESC NULLS LAST, order_id) AS nth FROM orders WHERE customer_id IS NOT NULL) t
WHERE nth = 1
