-- writes: postgres t_group_bool_key
-- key: active
SELECT COALESCE(active, FALSE) AS active, COUNT(*) AS n, SUM(stock) AS stock, MAX(category) AS last
FROM products
GROUP BY 1
