-- writes: postgres bench_loyal_customers
-- key: customer_id
SELECT t.customer_id, c.tier, t.orders
FROM customer_totals t
JOIN customers c ON c.customer_id = t.customer_id
WHERE t.orders > 5
