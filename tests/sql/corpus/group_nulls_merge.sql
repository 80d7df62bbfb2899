-- writes: postgres t_group_nulls_merge
-- key: grp, n_is_null
-- postgres: yes
SELECT COALESCE(customer_id, -1) AS grp, customer_id IS NULL AS n_is_null, COUNT(*) AS n FROM orders GROUP BY customer_id
