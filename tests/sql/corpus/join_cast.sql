-- writes: postgres t_join_cast
-- key: item_id, product_id
-- broken: refused by planning, where both sides are of the same width and both keys are expressions
-- postgres: yes
SELECT i.item_id, p.product_id
FROM items i
JOIN products p ON CAST(p.stock AS VARCHAR) = CAST(i.quantity AS VARCHAR)
