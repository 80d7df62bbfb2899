-- writes: postgres t_chain_left
-- key: order_id
SELECT o.order_id, x.who, x.n
FROM orders o
LEFT JOIN (SELECT who, n FROM aggregate_union WHERE n > 1) x ON x.who = o.status
