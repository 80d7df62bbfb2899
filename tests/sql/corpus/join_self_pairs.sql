-- writes: postgres t_join_self_pairs
-- key: one, other
-- postgres: yes
SELECT a.customer_id AS one, b.customer_id AS other FROM customers a JOIN customers b ON a.tier = b.tier AND a.region = b.region WHERE a.customer_id < b.customer_id
