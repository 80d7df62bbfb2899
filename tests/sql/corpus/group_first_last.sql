-- writes: postgres t_group_first_last
-- key: customer_id
SELECT customer_id, FIRST_VALUE(status ORDER BY placed, order_id) AS first, LAST_VALUE(status ORDER BY placed, order_id) AS last FROM orders WHERE customer_id IS NOT NULL AND placed IS NOT NULL GROUP BY customer_id
