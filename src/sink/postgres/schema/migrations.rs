//! The files of `sql/ods`: applied once each, in the order of their names.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::made_at_start;
use super::system_tables::{self, MIGRATIONS};
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::{classify, is_connection_lost};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::config::PostgresConfig;

const DOING: &str = "applying the files of sql/ods";
/// Said of a table that a start has made and that rows have come to since.
const ALREADY_THERE: &str = ": if a start without this file has made it, take the statement out of the file, or write \
                             CREATE ... IF NOT EXISTS; an empty one would have made room";
/// Two processors that start at once take turns; until the end of the transaction.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('tidemark migrations'), hashtext($1))";

/// Applies what is new, then creates what the sink itself needs; the names of the files that were applied.
pub(crate) async fn apply(
    connection: &mut Connection,
    config: &PostgresConfig,
    files: &[(String, String)],
) -> Result<Vec<String>, SinkError> {
    let schema = config.schema.as_str();
    create_own(connection, schema, system_tables::BEFORE_FILES).await?;
    let pending = not_applied(connection, schema, files).await?;
    for (file, text) in &pending {
        apply_file(connection, schema, file, text).await?;
    }
    create_own(connection, schema, system_tables::AFTER_FILES).await?;
    let failed = |error| classify(DOING, error);
    begin(connection, schema).await?;
    system_tables::add_missing_columns(&connection.client, schema).await.map_err(failed)?;
    system_tables::create_missing_indexes(&connection.client, schema).await.map_err(failed)?;
    connection.commit().await.map_err(failed)?;
    Ok(pending.into_iter().map(|(file, _)| file.clone()).collect())
}

/// The names of the files that are still to be applied; nothing is written.
pub(crate) async fn pending(
    connection: &mut Connection,
    schema: &str,
    files: &[(String, String)],
) -> Result<Vec<String>, SinkError> {
    let table = quote::table(schema, MIGRATIONS);
    let exists = "SELECT to_regclass($1) IS NOT NULL";
    let exists = connection.client.query_typed_one(exists, &[(&table, Type::TEXT)]).await;
    let exists = exists.and_then(|row| row.try_get::<_, bool>(0));
    let pending = if exists.map_err(|error| classify(DOING, error))? {
        not_applied(connection, schema, files).await?
    } else {
        in_order(files)
    };
    Ok(pending.into_iter().map(|(file, _)| file.clone()).collect())
}

/// Those with a statement, in the order of their names. An empty file may be one that is being written: if it were
/// taken for applied, what it says later never would be.
fn in_order(files: &[(String, String)]) -> Vec<&(String, String)> {
    let mut files: Vec<_> = files.iter().filter(|(_, text)| has_statement(text)).collect();
    files.sort();
    files
}

/// Whether there is anything besides comments, spaces and semicolons.
pub(crate) fn has_statement(text: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            return !rest.is_empty();
        };
    }
}

async fn not_applied<'a>(
    connection: &Connection,
    schema: &str,
    files: &'a [(String, String)],
) -> Result<Vec<&'a (String, String)>, SinkError> {
    let mut pending = Vec::new();
    for named in in_order(files) {
        if !is_applied(connection, schema, &named.0, &named.1).await? {
            pending.push(named);
        }
    }
    Ok(pending)
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
    run(connection, schema, text).await.map_err(|error| in_file(file, error))?;
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

/// A table that is there already and that a start has made makes room, if it is empty.
async fn run(
    connection: &Connection,
    schema: &str,
    text: &str,
) -> Result<(), tokio_postgres::Error> {
    let client = &connection.client;
    client.batch_execute("SAVEPOINT file").await?;
    match client.batch_execute(text).await {
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_TABLE) => {
            client.batch_execute("ROLLBACK TO SAVEPOINT file").await?;
            made_at_start::make_room(client, schema, text).await?;
            client.batch_execute(text).await
        }
        done => done,
    }
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
    let mut text = format!("{}{}", db.message(), line.unwrap_or_default());
    if db.code() == &SqlState::DUPLICATE_TABLE {
        text.push_str(ALREADY_THERE);
    }
    match classify(&doing, error) {
        retried @ (SinkError::Unavailable { .. } | SinkError::Interrupted { .. }) => retried,
        other => SinkError::Migration {
            file: file.to_owned(),
            message: text,
            source: Some(other.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_statement_is_none() {
        for text in ["", " \n;\n", "-- later", "/* a\nb */ ;-- c\n", "\u{feff}\n"] {
            assert!(!has_statement(text), "{text:?}");
        }
        for text in ["SELECT 1", "-- a\nSELECT 1", "/* a */ SELECT 1", "\u{feff}SELECT 1"] {
            assert!(has_statement(text), "{text:?}");
        }
    }
}
