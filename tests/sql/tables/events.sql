CREATE TABLE events (
  event_id BIGINT PRIMARY KEY, kind VARCHAR, happened TIMESTAMP, score DOUBLE, flag BOOLEAN, note VARCHAR
) WITH (source = 'T.EVENTS', event_time = 'happened', ttl = 'none');
