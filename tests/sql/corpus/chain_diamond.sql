-- writes: postgres t_chain_diamond
-- key: customer_id
SELECT b.customer_id, b.total, r.total AS of_referrer FROM chain_b b JOIN customers c ON c.customer_id = b.customer_id LEFT JOIN chain_a r ON r.customer_id = c.referrer
