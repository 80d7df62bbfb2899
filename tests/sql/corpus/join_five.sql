-- writes: postgres t_join_five
-- key: item_id
-- postgres: yes
SELECT i.item_id, o.status, c.name, r.tier AS referrer_tier, p.category
FROM items i
JOIN orders o ON o.order_id = i.order_id
JOIN customers c ON c.customer_id = o.customer_id
LEFT JOIN customers r ON r.customer_id = c.referrer
LEFT JOIN products p ON p.product_id = i.product_id
