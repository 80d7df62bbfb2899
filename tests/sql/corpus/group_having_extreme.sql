-- writes: postgres t_group_having_extreme
-- key: customer_id
-- postgres: yes
SELECT customer_id, MIN(placed) AS first
FROM orders
WHERE customer_id IS NOT NULL
GROUP BY customer_id
HAVING MIN(amount) < 0 OR MAX(order_id) > 3
