-- writes: postgres t_join_twice
-- key: order_id
-- postgres: yes
SELECT o.order_id, a.tier AS one, b.region AS two, r.name AS three
FROM orders o
LEFT JOIN customers a ON a.customer_id = o.customer_id
LEFT JOIN customers b ON b.customer_id = o.customer_id
LEFT JOIN customers r ON r.customer_id = o.order_id
