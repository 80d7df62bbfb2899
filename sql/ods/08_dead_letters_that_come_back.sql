-- Dead letters know their pipeline, table and column, and what became of them: status is dead, requested (somebody
-- wants it processed again), replayed or superseded (a newer change of its row has landed). A row of a result that the
-- target refuses has no event. Two pipelines may refuse the same event.

ALTER TABLE cdc_dlq
  ALTER COLUMN event_id DROP NOT NULL,
  DROP CONSTRAINT cdc_dlq_event_id_key,
  ADD COLUMN pipeline     TEXT,
  ADD COLUMN source_table TEXT,
  ADD COLUMN column_name  TEXT,
  ADD COLUMN status       TEXT NOT NULL DEFAULT 'dead',
  ADD COLUMN settled_at   TIMESTAMPTZ,
  ADD COLUMN published_at TIMESTAMPTZ,
  ADD UNIQUE (pipeline, event_id);
-- What there is from before is published nowhere.
UPDATE cdc_dlq SET published_at = now();
CREATE INDEX cdc_dlq_requested ON cdc_dlq (id) WHERE status = 'requested';
CREATE INDEX cdc_dlq_unpublished ON cdc_dlq (id) WHERE published_at IS NULL;
