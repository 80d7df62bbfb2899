//! The tables that the sink keeps for itself, and the dead-letter table if nobody made one.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::made_at_start;
use crate::model::Epoch;
use crate::sink::postgres::client::quote;
use crate::sink::{DataError, SinkError};

pub(crate) const LEDGER: &str = "tidemark_ledger";
pub(crate) const SPOOLS: &str = "tidemark_spools";
pub(crate) const COMMITTED: &str = "tidemark_committed";
pub(crate) const RESULTS: &str = "tidemark_results";
pub(crate) const GAPS: &str = "tidemark_gaps";
pub(crate) const SCHEMA_CHANGES: &str = "tidemark_schema_changes";
pub(crate) const LOST_EPOCHS: &str = "tidemark_lost_epochs";
pub(crate) const PRUNED: &str = "tidemark_pruned";
pub(crate) const DELETED: &str = "tidemark_deleted";
pub(crate) const OUTBOX: &str = "tidemark_outbox";
pub(crate) const MIGRATIONS: &str = "tidemark_migrations";
/// The only one that others write to as well.
pub(crate) const DEAD_LETTERS: &str = "cdc_dlq";

/// One row per epoch. Its key is also the fence between two processors of one pipeline.
/// `spools[i]` (16 hexadecimal digits) belongs to `offsets[i]`.
const LEDGER_DDL: &str = "\
pipeline text NOT NULL, epoch bigint NOT NULL, queue text NOT NULL, run_id text NOT NULL, \
spools text[] NOT NULL, offsets int8multirange[] NOT NULL, \
landed jsonb NOT NULL, results jsonb NOT NULL, dead_letters bigint NOT NULL, \
watermark timestamp, opened_at timestamptz NOT NULL, closed_at timestamptz NOT NULL, \
committed_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (pipeline, epoch)";

/// The generations of a queue: from which spool its ids come, from which id on.
const SPOOLS_DDL: &str = "\
pipeline text NOT NULL, queue text NOT NULL, generation integer NOT NULL, spool text NOT NULL, \
first_id bigint NOT NULL DEFAULT 0, PRIMARY KEY (pipeline, queue, generation)";

/// The offsets of epochs whose ledger rows were compacted away.
const COMMITTED_DDL: &str = "\
pipeline text NOT NULL, queue text NOT NULL, spool text NOT NULL, \
offsets int8multirange NOT NULL, forgotten_to bigint, PRIMARY KEY (pipeline, queue, spool)";

/// Under which definition the rows of each result were written.
const RESULTS_DDL: &str = "\
pipeline text NOT NULL, result text NOT NULL, definition text NOT NULL, \
written_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (pipeline, result)";

/// Results whose targets lack rows, or keep old ones, because they refused the new ones.
const GAPS_DDL: &str = "\
pipeline text NOT NULL, result text NOT NULL, noted_at timestamptz NOT NULL DEFAULT now(), \
PRIMARY KEY (pipeline, result)";

/// What the events taught about the columns of their tables, in the order of `id`.
const SCHEMA_CHANGES_DDL: &str = "\
id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, pipeline text NOT NULL, epoch bigint NOT NULL, \
source_schema text NOT NULL, source_table text NOT NULL, column_name text NOT NULL, \
change text NOT NULL, seen_type text NOT NULL, event_id text NOT NULL, \
noticed_at timestamptz NOT NULL DEFAULT now()";
/// Epochs that the database had lost, and the epoch in which an operator has accepted that. `offsets` has per queue the first and
/// the last offset of each range.
const LOST_EPOCHS_DDL: &str = "\
pipeline text NOT NULL, accepted_epoch bigint NOT NULL, first_epoch bigint, last_epoch bigint, \
epochs bigint NOT NULL, messages bigint NOT NULL, offsets jsonb NOT NULL, landed jsonb NOT NULL, \
opened_at timestamptz, committed_at timestamptz, accepted_at timestamptz NOT NULL DEFAULT now(), \
PRIMARY KEY (pipeline, accepted_epoch)";
/// Up to when rows of a landing table have been looked at since they are old, and since they may supersede old ones.
const PRUNED_DDL: &str = "\
pipeline text NOT NULL, landing text NOT NULL, aged_to timestamptz, landed_to timestamptz NOT NULL, \
PRIMARY KEY (pipeline, landing)";
/// The newest delete of each key of a table of current rows; `change` has what a row of that table would have. The key is an array of its
/// values.
const DELETED_DDL: &str = "\
landing text NOT NULL, key jsonb NOT NULL, pipeline text NOT NULL, epoch bigint, event_id text NOT NULL, \
change_seq bigint NOT NULL, change jsonb NOT NULL, deleted_at timestamptz NOT NULL DEFAULT now(), \
PRIMARY KEY (landing, key)";
/// What is to be posted to the REST API, in the order of `id`. Rows of `is_once` stay when they are delivered, so
/// that their keys are never posted again.
const OUTBOX_DDL: &str = "\
id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, pipeline text NOT NULL, epoch bigint NOT NULL, \
result text NOT NULL, path text NOT NULL, lane text NOT NULL, operation text NOT NULL, \
idempotency_key text NOT NULL, body text NOT NULL, is_once boolean NOT NULL, \
created_at timestamptz NOT NULL DEFAULT now(), delivered_at timestamptz, \
UNIQUE (pipeline, idempotency_key)";

const MIGRATIONS_DDL: &str = "\
file text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()";

const DEAD_LETTERS_DDL: &str = "\
id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, original_topic text NOT NULL, \
error_type text NOT NULL, error_message text NOT NULL, phase text NOT NULL, \
original_payload bytea NOT NULL, payload jsonb, properties jsonb, event_id text, \
retry_count integer NOT NULL DEFAULT 0, first_failure timestamptz NOT NULL, \
last_failure timestamptz NOT NULL, consumer_id text, pipeline text, source_table text, \
column_name text, status text NOT NULL DEFAULT 'dead', settled_at timestamptz, \
published_at timestamptz, UNIQUE (pipeline, event_id)";

/// What must be there before the first file of `sql/ods`.
pub(crate) const BEFORE_FILES: &[(&str, &str)] = &[(MIGRATIONS, MIGRATIONS_DDL)];
/// What is made after them, unless one of them did.
pub(crate) const AFTER_FILES: &[(&str, &str)] = &[
    (LEDGER, LEDGER_DDL),
    (SPOOLS, SPOOLS_DDL),
    (COMMITTED, COMMITTED_DDL),
    (RESULTS, RESULTS_DDL),
    (GAPS, GAPS_DDL),
    (SCHEMA_CHANGES, SCHEMA_CHANGES_DDL),
    (LOST_EPOCHS, LOST_EPOCHS_DDL),
    (PRUNED, PRUNED_DDL),
    (DELETED, DELETED_DDL),
    (OUTBOX, OUTBOX_DDL),
    (DEAD_LETTERS, DEAD_LETTERS_DDL),
];

/// Where the letters of a key are found that nothing final has become of.
pub(crate) const OPEN_REQUESTS: &str = "(pipeline, (properties->>'lane')) WHERE phase = 'rest' AND status IN ('dead', 'requested', 'queued')";

/// Name, table and definition. What waits in the outbox is found without the rows that stay in it, refused
/// requests by their keys, and letters by their state, also where their table is not made by the shipped files.
const INDEXES: [(&str, &str, &str); 10] = [
    ("tidemark_deleted_events", DELETED, "(event_id)"),
    ("tidemark_deleted_epochs", DELETED, "(landing, epoch)"),
    ("tidemark_outbox_waiting", OUTBOX, "(pipeline, id) WHERE delivered_at IS NULL"),
    ("tidemark_refused_requests", DEAD_LETTERS, OPEN_REQUESTS),
    // As the shipped files name them.
    ("cdc_dlq_newest", DEAD_LETTERS, "(first_failure DESC)"),
    ("cdc_dlq_type", DEAD_LETTERS, "(error_type, first_failure DESC)"),
    ("cdc_dlq_requested", DEAD_LETTERS, "(id) WHERE status = 'requested'"),
    ("cdc_dlq_unpublished", DEAD_LETTERS, "(id) WHERE published_at IS NULL"),
    (
        "tidemark_open_letters",
        DEAD_LETTERS,
        "(pipeline, first_failure) WHERE status IN ('dead', 'requested', 'queued')",
    ),
    (
        "tidemark_schema_changes_newest",
        SCHEMA_CHANGES,
        "(pipeline, source_schema, source_table, change, id)",
    ),
];

/// Columns that tables of earlier releases lack, and what else is to change with them.
const ADDED_COLUMNS: [(&str, &str, &str); 2] = [
    (
        SPOOLS,
        "first_id",
        "ADD COLUMN first_id bigint NOT NULL DEFAULT 0, \
         DROP CONSTRAINT IF EXISTS tidemark_spools_pipeline_queue_spool_key",
    ),
    (COMMITTED, "forgotten_to", "ADD COLUMN forgotten_to bigint"),
];

/// Adds the columns that the sink's own tables lack. Neither of them rewrites its table.
pub(crate) async fn add_missing_columns(client: &Client, schema: &str) -> Result<(), Error> {
    let is_missing = "SELECT NOT EXISTS (SELECT FROM pg_attribute \
                      WHERE attrelid = to_regclass($1) AND attname = $2 AND NOT attisdropped)";
    for (table, column, change) in ADDED_COLUMNS {
        let name = quote::table(schema, table);
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&name, Type::TEXT), (&column, Type::TEXT)];
        if client.query_typed_one(is_missing, &params).await?.try_get(0)? {
            client.batch_execute(&format!("ALTER TABLE {name} {change}")).await?;
        }
    }
    Ok(())
}

/// Creates the indexes of the sink's own tables that are missing. An installation of before lacks them, and runs
/// without them if the role may not create them.
pub(crate) async fn create_missing_indexes(client: &Client, schema: &str) -> Result<(), Error> {
    let may = "SELECT to_regclass($3) IS NULL AND pg_has_role(c.relowner, 'USAGE') \
               AND has_schema_privilege(n.oid, 'CREATE') \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2";
    for (name, table, definition) in INDEXES {
        let index = quote::table(schema, name);
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&schema, Type::TEXT), (&table, Type::TEXT), (&index, Type::TEXT)];
        let row = client.query_typed_opt(may, &params).await?;
        if row.map(|row| row.try_get::<_, bool>(0)).transpose()?.unwrap_or(false) {
            let (name, table) = (quote::ident(name), quote::table(schema, table));
            client.batch_execute(&format!("CREATE INDEX {name} ON {table} {definition}")).await?;
        }
    }
    Ok(())
}

/// Creates those that are missing, and the schema. A role that may not create anything can run on
/// tables that are there: CREATE ... IF NOT EXISTS would refuse it.
pub(crate) async fn create_missing(
    client: &Client,
    schema: &str,
    tables: &[(&str, &str)],
) -> Result<(), Error> {
    let has_schema = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    if !client.query_typed_one(has_schema, &[(&schema, Type::TEXT)]).await?.try_get::<_, bool>(0)? {
        client.batch_execute(&format!("CREATE SCHEMA {}", quote::ident(schema))).await?;
    }
    for (table, columns) in tables {
        let name = quote::table(schema, table);
        let found = "SELECT to_regclass($1) IS NOT NULL";
        let found = client.query_typed_one(found, &[(&name, Type::TEXT)]).await?;
        if !found.try_get::<_, bool>(0)? {
            let mark = made_at_start::mark(&name);
            client.batch_execute(&format!("CREATE TABLE {name} ({columns}); {mark}")).await?;
        }
    }
    Ok(())
}

/// An epoch as the tables have it.
///
/// # Errors
/// [`SinkError::Data`] if it is too high.
pub(crate) fn epoch_number(epoch: Epoch) -> Result<i64, SinkError> {
    i64::try_from(epoch.0).map_err(|_| {
        let (table, message) = (Some(LEDGER.to_owned()), format!("epoch {epoch} is above 2^63"));
        SinkError::Data(DataError { table, column: None, row: None, message, detail: None })
    })
}
