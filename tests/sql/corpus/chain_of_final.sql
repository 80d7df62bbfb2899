-- writes: postgres t_chain_of_final
-- key: windows
SELECT COUNT(*) AS windows, SUM(n) AS orders
FROM window_final
WHERE is_final
