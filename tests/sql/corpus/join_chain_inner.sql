-- writes: postgres t_join_chain_inner
-- key: item_id
-- postgres: yes
SELECT i.item_id, o.order_id, c.tier, p.category FROM items i JOIN orders o ON o.order_id = i.order_id JOIN customers c ON c.customer_id = o.customer_id JOIN products p ON p.product_id = i.product_id
