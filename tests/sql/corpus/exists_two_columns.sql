-- writes: postgres t_exists_two_columns
-- key: item_id
-- postgres: yes
SELECT a.item_id
FROM items a
WHERE EXISTS (SELECT 1 FROM items b WHERE b.order_id = a.order_id AND b.product_id = a.product_id AND b.item_id <> a.item_id)
