-- writes: postgres t_aggregate_join_four
-- key: category, tier
-- postgres: yes
SELECT COALESCE(p.category, '-') AS category, COALESCE(c.tier, '-') AS tier, SUM(i.quantity) AS pieces, COUNT(DISTINCT o.order_id) AS orders FROM items i JOIN orders o ON o.order_id = i.order_id LEFT JOIN customers c ON c.customer_id = o.customer_id LEFT JOIN products p ON p.product_id = i.product_id GROUP BY 1, 2
