-- An active product without stock: each time that it runs out.
-- writes: rest /api/v1/notifications
-- key: product_id
-- sends: new
-- payload: notification STOCK_OUT NORMAL
SELECT product_id, name, category, stock_qty
FROM products
WHERE stock_qty <= 0 AND is_active
