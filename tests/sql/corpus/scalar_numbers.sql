-- writes: postgres t_scalar_numbers
-- key: item_id
-- postgres: yes
SELECT item_id, price * quantity AS total, quantity % 2 = 0 AS is_even, -price AS owed, CAST(quantity AS BIGINT) * 1000 AS many
FROM items
WHERE quantity BETWEEN 1 AND 3 OR price < 0
