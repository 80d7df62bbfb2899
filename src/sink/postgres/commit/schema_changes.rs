//! The schema registry: one row per thing that an event taught about a column, never changed.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::model::{EpochCommit, SchemaChange, SchemaChangeKind, SeenType, SourceTable};
use crate::sink::SinkError;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::client::session::DatabaseSession;
use crate::sink::postgres::schema::system_tables::{SCHEMA_CHANGES, epoch_number};
use crate::sink::postgres::target::rows::BoundStatement;

/// Adds what an epoch has learned. What the registry says already about a column is not said again, however often its messages come.
pub(crate) fn insert(
    schema: &str,
    pipeline: &str,
    commit: &EpochCommit,
) -> Result<BoundStatement, SinkError> {
    let sql = format!(
        "INSERT INTO {registry} (pipeline, epoch, source_schema, source_table, column_name, change, seen_type, event_id) \
         SELECT $1::text, $2::bigint, c.a, c.b, c.c, c.d, c.e, c.f FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], \
         $7::text[], $8::text[]) WITH ORDINALITY AS c(a, b, c, d, e, f, number) \
         WHERE NOT EXISTS (SELECT FROM (SELECT known.column_name, known.seen_type FROM {registry} AS known \
         WHERE known.pipeline = $1 AND known.source_schema = c.a AND known.source_table = c.b AND known.change = c.d \
         AND (known.change = {key} OR known.column_name = c.c) ORDER BY known.id DESC LIMIT 1) AS newest \
         WHERE newest.column_name = c.c AND newest.seen_type = c.e) ORDER BY number",
        // A table has one key at a time, whose columns are its name.
        key = quote::literal(SchemaChangeKind::Key.as_str()),
        registry = quote::table(schema, SCHEMA_CHANGES)
    );
    let texts = |text: fn(&SchemaChange) -> String| -> Box<Vec<String>> {
        Box::new(commit.schema_changes.iter().map(text).collect())
    };
    Ok(BoundStatement {
        table: SCHEMA_CHANGES.to_owned(),
        sql,
        params: vec![
            Box::new(pipeline.to_owned()),
            Box::new(epoch_number(commit.epoch)?),
            texts(|change| change.source.schema.clone()),
            texts(|change| change.source.table.clone()),
            texts(|change| change.column.clone()),
            texts(|change| change.kind.as_str().to_owned()),
            texts(|change| change.seen.to_string()),
            texts(|change| change.offset.to_string()),
        ],
    })
}

/// All that a pipeline has learned, oldest first.
pub(crate) async fn read(
    client: &Client,
    schema: &str,
    pipeline: &str,
) -> Result<Vec<SchemaChange>, SinkError> {
    let sql = format!(
        "SELECT source_schema, source_table, column_name, change, seen_type, event_id FROM {} \
         WHERE pipeline = $1 ORDER BY id",
        quote::table(schema, SCHEMA_CHANGES)
    );
    let rows = client.query_typed(&sql, &[(&pipeline, Type::TEXT)]).await;
    let rows = rows.map_err(|error| classify("reading the schema registry", error))?;
    rows.iter().map(change).collect()
}

/// As [`read`], with a connection for it.
pub(crate) async fn read_alone(
    session: &mut DatabaseSession,
    pipeline: &str,
) -> Result<Vec<SchemaChange>, SinkError> {
    let schema = session.schema().to_owned();
    let doing = "reading the schema changes";
    session.with_connection(doing, async |open| read(&open.client, &schema, pipeline).await).await
}

fn change(row: &Row) -> Result<SchemaChange, SinkError> {
    let text = |at: usize| -> Result<&str, SinkError> {
        row.try_get(at).map_err(|error| classify("reading the schema registry", error))
    };
    let unreadable = |at: usize| SinkError::Unreadable {
        table: SCHEMA_CHANGES.to_owned(),
        what: format!("'{}'", text(at).unwrap_or_default()),
    };
    Ok(SchemaChange {
        source: SourceTable { schema: text(0)?.to_owned(), table: text(1)?.to_owned() },
        column: text(2)?.to_owned(),
        kind: SchemaChangeKind::parse(text(3)?).ok_or_else(|| unreadable(3))?,
        seen: SeenType::parse(text(4)?).ok_or_else(|| unreadable(4))?,
        offset: text(5)?.parse().map_err(|_| unreadable(5))?,
    })
}
