-- writes: postgres t_not_in_list
-- key: order_id
-- postgres: yes
SELECT order_id, status FROM orders WHERE status NOT IN ('NEW', 'PAID')
