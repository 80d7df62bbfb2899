-- writes: postgres t_join_aggregates_of_one
-- key: order_id
-- postgres: yes
SELECT a.order_id, a.n, b.most
FROM (SELECT order_id, COUNT(*) AS n FROM items GROUP BY order_id) a
JOIN (SELECT order_id, MAX(quantity) AS most FROM items WHERE product_id > 1 GROUP BY order_id) b ON b.order_id = a.order_id
