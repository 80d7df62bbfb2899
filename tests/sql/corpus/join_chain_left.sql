-- writes: postgres t_join_chain_left
-- key: item_id
-- postgres: yes
SELECT i.item_id, o.order_id, c.tier, p.category FROM items i LEFT JOIN orders o ON o.order_id = i.order_id LEFT JOIN customers c ON c.customer_id = o.customer_id LEFT JOIN products p ON p.product_id = i.product_id
