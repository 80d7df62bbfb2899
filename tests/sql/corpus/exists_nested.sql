-- writes: postgres t_exists_nested
-- key: customer_id
-- postgres: yes
SELECT customer_id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id AND NOT EXISTS (SELECT 1 FROM items i WHERE i.order_id = o.order_id))
