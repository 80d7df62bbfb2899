-- writes: postgres t_filter_nulls
-- key: order_id
-- postgres: yes
SELECT order_id, customer_id FROM orders WHERE status IS NULL OR customer_id IS NOT NULL
