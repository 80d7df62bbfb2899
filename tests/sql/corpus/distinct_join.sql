-- writes: postgres t_distinct_join
-- key: category, status
-- postgres: yes
SELECT DISTINCT p.category, o.status FROM items i JOIN orders o ON o.order_id = i.order_id JOIN products p ON p.product_id = i.product_id WHERE p.category IS NOT NULL AND o.status IS NOT NULL
