-- writes: postgres t_group_first_descending
-- key: customer_id
SELECT customer_id, FIRST_VALUE(amount ORDER BY placed DESC, order_id DESC) AS newest FROM orders WHERE customer_id IS NOT NULL AND placed IS NOT NULL GROUP BY customer_id
