-- writes: postgres t_join_cross
-- key: customer_id, product_id
-- postgres: yes
SELECT c.customer_id, p.product_id FROM customers c CROSS JOIN products p WHERE c.tier = 'GOLD' AND p.active
