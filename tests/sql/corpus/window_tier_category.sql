-- writes: postgres t_window_tier_category
-- key: window_start, tier, category
SELECT date_bin(INTERVAL '5 minutes', o.placed, TIMESTAMP '1970-01-01 00:00:00') AS window_start, COALESCE(c.tier, '-') AS tier, COALESCE(p.category, '-') AS category, SUM(i.price * i.quantity) AS revenue FROM items i JOIN orders o ON o.order_id = i.order_id LEFT JOIN customers c ON c.customer_id = o.customer_id LEFT JOIN products p ON p.product_id = i.product_id WHERE o.placed IS NOT NULL GROUP BY 1, 2, 3
