//! The files of `sql/ods`: applied once each, in the order of their names.

use super::config::PostgresConfig;
use super::connection::Connection;
use super::fault::{classify, is_connection_lost};
use super::own_tables::{self, MIGRATIONS};
use super::quote;
use crate::sink::SinkError;

const DOING: &str = "applying the files of sql/ods";
/// Two processors that start at once take turns.
const LOCK: &str = "SELECT pg_advisory_lock(hashtext('tidemark migrations'), hashtext($1))";
const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtext('tidemark migrations'), hashtext($1))";

/// Applies what is new, then creates what the sink itself needs.
pub(super) async fn apply(
    connection: &Connection,
    config: &PostgresConfig,
    files: &[(String, String)],
) -> Result<(), SinkError> {
    let (client, schema) = (&connection.client, config.schema.as_str());
    let failed = |error| classify(DOING, error);
    client.query_one(LOCK, &[&schema]).await.map_err(failed)?;
    own_tables::create_missing(client, schema, own_tables::BEFORE_FILES).await.map_err(failed)?;
    let mut files: Vec<&(String, String)> = files.iter().collect();
    files.sort();
    for (file, text) in files {
        apply_file(connection, schema, (file, text)).await?;
    }
    own_tables::create_missing(client, schema, own_tables::AFTER_FILES).await.map_err(failed)?;
    client.query_one(UNLOCK, &[&schema]).await.map_err(failed)?;
    Ok(())
}

async fn apply_file(
    connection: &Connection,
    schema: &str,
    (file, text): (&str, &str),
) -> Result<(), SinkError> {
    let client = &connection.client;
    let failed = |error| classify(DOING, error);
    let migrations = quote::table(schema, MIGRATIONS);
    let recorded = format!(
        "SELECT checksum = encode(sha256(convert_to($2, 'UTF8')), 'hex') \
         FROM {migrations} WHERE file = $1"
    );
    if let Some(row) = client.query_opt(&recorded, &[&file, &text]).await.map_err(failed)? {
        return match row.try_get(0).map_err(failed)? {
            true => Ok(()),
            false => Err(SinkError::MigrationChanged { file: file.to_owned() }),
        };
    }
    // An index over a large table takes longer than any statement of an epoch may.
    client.batch_execute("BEGIN; SET LOCAL statement_timeout = 0").await.map_err(failed)?;
    let transaction = transaction_id(connection).await?;
    client.batch_execute(text).await.map_err(|error| in_file(file, error))?;
    if transaction_id(connection).await? != transaction {
        return Err(SinkError::Migration {
            file: file.to_owned(),
            message: "it ends the transaction in which it is applied; take out its COMMIT or \
                      ROLLBACK, and see what it has already done"
                .to_owned(),
            source: None,
        });
    }
    let record = format!(
        "INSERT INTO {migrations} (file, checksum) \
         VALUES ($1, encode(sha256(convert_to($2, 'UTF8')), 'hex'))"
    );
    client.execute(&record, &[&file, &text]).await.map_err(failed)?;
    client.batch_execute("COMMIT").await.map_err(|error| in_file(file, error))?;
    tracing::info!(file, "migration applied");
    Ok(())
}

async fn transaction_id(connection: &Connection) -> Result<String, SinkError> {
    let sql = "SELECT pg_current_xact_id()::text";
    let row = connection.client.query_one(sql, &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| classify(DOING, error))
}

/// What the server says about a file, unless it is about the moment: a lock, a lost connection.
fn in_file(file: &str, error: tokio_postgres::Error) -> SinkError {
    let doing = format!("applying {file}");
    if is_connection_lost(&error) {
        return classify(&doing, error);
    }
    let Some(db) = error.as_db_error() else { return classify(&doing, error) };
    let line = db.position().and_then(|position| match position {
        tokio_postgres::error::ErrorPosition::Original(at) => Some(format!(" at character {at}")),
        tokio_postgres::error::ErrorPosition::Internal { .. } => None,
    });
    let text = format!("{}{}", db.message(), line.unwrap_or_default());
    match classify(&doing, error) {
        retried @ (SinkError::Unavailable { .. } | SinkError::Interrupted { .. }) => retried,
        other => SinkError::Migration {
            file: file.to_owned(),
            message: text,
            source: Some(other.into()),
        },
    }
}
