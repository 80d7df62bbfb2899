-- writes: postgres t_group_constant
-- key: everything
SELECT 'all' AS everything, COUNT(*) AS n, AVG(quantity) AS mean
FROM items
GROUP BY 1
