-- writes: postgres t_scalar_two
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, (SELECT COUNT(*) FROM orders o WHERE o.customer_id = c.customer_id AND o.status = 'NEW') AS fresh, (SELECT SUM(i.quantity) FROM items i WHERE i.order_id = c.referrer) AS pieces
FROM customers c
