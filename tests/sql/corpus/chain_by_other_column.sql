-- writes: postgres t_chain_by_other_column
-- key: customer_id, other
SELECT b.customer_id, c.customer_id AS other FROM chain_b b JOIN customers c ON c.tier = b.tier
