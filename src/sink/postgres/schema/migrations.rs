//! The files of `sql/ods`: applied once each, in the order of their names.

use tokio_postgres::types::{ToSql, Type};

use super::system_tables::{self, MIGRATIONS};
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::{classify, is_connection_lost};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::config::PostgresConfig;

const DOING: &str = "applying the files of sql/ods";
/// Two processors that start at once take turns; until the end of the transaction.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('tidemark migrations'), hashtext($1))";

/// Applies what is new, then creates what the sink itself needs.
pub(crate) async fn apply(
    connection: &mut Connection,
    config: &PostgresConfig,
    files: &[(String, String)],
) -> Result<(), SinkError> {
    let schema = config.schema.as_str();
    create_own(connection, schema, system_tables::BEFORE_FILES).await?;
    let mut files: Vec<&(String, String)> = files.iter().collect();
    files.sort();
    for (file, text) in files {
        if !is_applied(connection, schema, file, text).await? {
            apply_file(connection, schema, file, text).await?;
        }
    }
    create_own(connection, schema, system_tables::AFTER_FILES).await?;
    let failed = |error| classify(DOING, error);
    begin(connection, schema).await?;
    system_tables::add_missing_columns(&connection.client, schema).await.map_err(failed)?;
    system_tables::create_missing_indexes(&connection.client, schema).await.map_err(failed)?;
    connection.commit().await.map_err(failed)
}

async fn create_own(
    connection: &mut Connection,
    schema: &str,
    tables: &[(&str, &str)],
) -> Result<(), SinkError> {
    let failed = |error| classify(DOING, error);
    begin(connection, schema).await?;
    system_tables::create_missing(&connection.client, schema, tables).await.map_err(failed)?;
    connection.commit().await.map_err(failed)
}

/// A transaction in which nobody else applies files.
async fn begin(connection: &mut Connection, schema: &str) -> Result<(), SinkError> {
    let failed = |error| classify(DOING, error);
    // An index over a large table takes longer than any statement of an epoch may.
    connection.begin_long("").await.map_err(failed)?;
    let schema: [(&(dyn ToSql + Sync), Type); 1] = [(&schema, Type::TEXT)];
    connection.client.query_typed(LOCK, &schema).await.map_err(failed)?;
    Ok(())
}

async fn is_applied(
    connection: &Connection,
    schema: &str,
    file: &str,
    text: &str,
) -> Result<bool, SinkError> {
    let failed = |error| classify(DOING, error);
    let sql = format!(
        "SELECT checksum = encode(sha256(convert_to($2, 'UTF8')), 'hex') FROM {} WHERE file = $1",
        quote::table(schema, MIGRATIONS)
    );
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&file, Type::TEXT), (&text, Type::TEXT)];
    let row = connection.client.query_typed_opt(&sql, &params).await.map_err(failed)?;
    let Some(row) = row else { return Ok(false) };
    if row.try_get(0).map_err(failed)? {
        Ok(true)
    } else {
        Err(SinkError::MigrationChanged { file: file.to_owned() })
    }
}

async fn apply_file(
    connection: &mut Connection,
    schema: &str,
    file: &str,
    text: &str,
) -> Result<(), SinkError> {
    let failed = |error| classify(DOING, error);
    begin(connection, schema).await?;
    // Another processor may have been at it until now.
    if is_applied(connection, schema, file, text).await? {
        return connection.roll_back().await.map_err(failed);
    }
    let transaction = transaction_id(connection).await?;
    connection.client.batch_execute(text).await.map_err(|error| in_file(file, error))?;
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
        "INSERT INTO {} (file, checksum) \
         VALUES ($1, encode(sha256(convert_to($2, 'UTF8')), 'hex'))",
        quote::table(schema, MIGRATIONS)
    );
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&file, Type::TEXT), (&text, Type::TEXT)];
    connection.client.execute_typed(&record, &params).await.map_err(failed)?;
    connection.commit().await.map_err(|error| in_file(file, error))?;
    tracing::info!(file, "migration applied");
    Ok(())
}

async fn transaction_id(connection: &Connection) -> Result<String, SinkError> {
    let sql = "SELECT pg_current_xact_id()::text";
    let row = connection.client.query_typed_one(sql, &[]).await;
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
