-- writes: postgres bench_status_changes
SELECT event_id, order_id, status, op FROM orders_changes WHERE status = 'SHIPPED'
