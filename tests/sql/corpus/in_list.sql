-- writes: postgres t_in_list
-- key: order_id
-- postgres: yes
SELECT order_id, status FROM orders WHERE status IN ('NEW', 'PAID')
