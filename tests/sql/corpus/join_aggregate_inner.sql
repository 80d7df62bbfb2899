-- writes: postgres t_join_aggregate_inner
-- key: customer_id
-- postgres: yes
SELECT c.customer_id, c.name, t.spent FROM (SELECT customer_id, SUM(amount) AS spent FROM orders GROUP BY customer_id) t JOIN customers c ON c.customer_id = t.customer_id WHERE t.spent > 30
