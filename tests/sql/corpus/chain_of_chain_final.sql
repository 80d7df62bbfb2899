-- writes: postgres t_chain_of_chain_final
-- key: is_final
SELECT COALESCE(is_final, FALSE) AS is_final, COUNT(*) AS windows, MAX(n) AS most
FROM window_final
GROUP BY 1
