-- When a change was committed, or a snapshot row was read, by the source's own count (Oracle's SCN): a snapshot row
-- that was read before the newest change of its key is not applied, and not landed.

ALTER TABLE cdc_orders ADD COLUMN source_scn BIGINT;
ALTER TABLE cdc_order_items ADD COLUMN source_scn BIGINT;
ALTER TABLE cdc_customers ADD COLUMN source_scn BIGINT;
ALTER TABLE cdc_products ADD COLUMN source_scn BIGINT;
ALTER TABLE cdc_audit_log ADD COLUMN source_scn BIGINT;
