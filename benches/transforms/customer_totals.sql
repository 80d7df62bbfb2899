-- writes: postgres bench_customer_totals
-- key: customer_id
SELECT customer_id, COUNT(*) AS orders, SUM(total_amount) AS total, MAX(order_date) AS last_order
FROM orders
WHERE customer_id IS NOT NULL
GROUP BY customer_id
