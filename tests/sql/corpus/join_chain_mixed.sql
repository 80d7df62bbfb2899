-- writes: postgres t_join_chain_mixed
-- key: item_id
-- postgres: yes
SELECT i.item_id, o.status, c.name, r.name AS referrer FROM items i JOIN orders o ON o.order_id = i.order_id LEFT JOIN customers c ON c.customer_id = o.customer_id LEFT JOIN customers r ON r.customer_id = c.referrer
