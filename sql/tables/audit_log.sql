-- Landed only: no transform reads it.
CREATE TABLE audit_log (
  log_id     BIGINT PRIMARY KEY,
  table_name VARCHAR,
  operation  VARCHAR,
  record_id  VARCHAR,
  changed_by VARCHAR,
  changed_at TIMESTAMP
) WITH (source = 'SALES.AUDIT_LOG', event_time = 'changed_at', ttl = '1h');
