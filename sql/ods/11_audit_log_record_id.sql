-- The source's RECORD_ID is a text of up to 100 characters, as in ORD-1001.

DROP VIEW cdc_audit_log_current;
ALTER TABLE cdc_audit_log ALTER COLUMN record_id TYPE TEXT;
CREATE VIEW cdc_audit_log_current AS
SELECT log_id, table_name, operation, record_id, changed_by, changed_at, source_ts, extra_fields, event_id, change_seq, processed_at
FROM (SELECT DISTINCT ON (log_id) * FROM cdc_audit_log ORDER BY log_id, change_seq DESC) newest
WHERE cdc_operation <> 'd';
