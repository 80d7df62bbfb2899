-- writes: postgres t_chain_of_anew
-- key: order_id
SELECT t.order_id, c.name FROM top_three t JOIN orders o ON o.order_id = t.order_id LEFT JOIN customers c ON c.customer_id = o.customer_id
