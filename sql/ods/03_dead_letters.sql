-- Events that could not be processed, with their original bytes.

CREATE TABLE cdc_dlq (
  id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  original_topic   TEXT NOT NULL,
  error_type       TEXT NOT NULL,
  error_message    TEXT NOT NULL,
  phase            TEXT NOT NULL,
  original_payload BYTEA NOT NULL,
  payload          JSONB,
  properties       JSONB,
  event_id         TEXT NOT NULL UNIQUE,
  retry_count      INTEGER NOT NULL DEFAULT 0,
  first_failure    TIMESTAMPTZ NOT NULL DEFAULT now(),
  last_failure     TIMESTAMPTZ NOT NULL DEFAULT now(),
  consumer_id      TEXT NOT NULL
);
CREATE INDEX cdc_dlq_newest ON cdc_dlq (first_failure DESC);
CREATE INDEX cdc_dlq_type ON cdc_dlq (error_type, first_failure DESC);
