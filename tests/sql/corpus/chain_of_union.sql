-- writes: postgres t_chain_of_union
-- key: customer_id, src, id
SELECT c.customer_id, u.src, u.id
FROM customers c
JOIN union_all u ON u.label = c.tier
