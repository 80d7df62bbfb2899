-- writes: postgres t_scalar_functions
-- key: customer_id
-- postgres: yes
SELECT customer_id, UPPER(name) || '/' || COALESCE(region, '') AS label, NULLIF(tier, 'GOLD') AS tier, name LIKE '%d%' AS has_d, CASE region WHEN 'north' THEN 1 WHEN 'south' THEN 2 END AS side
FROM customers
