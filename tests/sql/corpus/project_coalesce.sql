-- writes: postgres t_project_coalesce
-- key: customer_id
-- postgres: yes
SELECT customer_id, COALESCE(name, tier, 'nobody') AS label, tier IS NULL AS is_new FROM customers
