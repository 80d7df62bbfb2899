-- writes: postgres t_distinct_on
-- key: customer_id
-- postgres: yes
SELECT DISTINCT ON (customer_id) customer_id, order_id, status FROM orders WHERE customer_id IS NOT NULL ORDER BY customer_id, order_id DESC
