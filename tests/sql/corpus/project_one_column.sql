-- writes: postgres t_project_one_column
-- key: product_id
-- postgres: yes
SELECT product_id, category FROM products
