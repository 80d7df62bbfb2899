//! CHECK constraints of a target, evaluated over rows before they are written: one statement tells all rows that
//! break them, where an attempt to write tells one.
//!
//! Only constraints whose verdict the row alone decides: the others are left to the server, with everything else that
//! can refuse a row.

use std::ops::Range;

use tokio_postgres::error::{DbError, SqlState};

use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::{classify, is_connection_lost};
use crate::sink::postgres::target::check_statement::CheckStatement;
use crate::sink::postgres::target::row_write::RowWrite;
use crate::sink::{DataError, SinkError};

/// The rows that break a constraint; inside an open transaction that stays usable, and writes nothing.
///
/// Of each constraint the first row is tried, so that it is the server that refuses it.
///
/// # Errors
/// What is not about a row.
pub(crate) async fn broken(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
) -> Result<Vec<(usize, DataError)>, SinkError> {
    let Some(checks) = row_write.rows.checks().filter(|_| row_write.rows.count() > 0) else {
        return Ok(Vec::new());
    };
    let Some(told) = ask(connection, row_write, checks).await? else { return Ok(Vec::new()) };
    let mut confirmed: Vec<Option<bool>> = vec![None; checks.checks.len()];
    let mut broken = Vec::new();
    for (row, check) in told {
        let (Some(broken_check), Some(known)) = (checks.checks.get(check), confirmed.get(check))
        else {
            continue;
        };
        let is_confirmed = match known {
            Some(known) => *known,
            None => is_refused(connection, row_write, row, &broken_check.name).await?,
        };
        confirmed[check] = Some(is_confirmed);
        if is_confirmed {
            broken.push((row, broken_check.error(row_write.rows.table(), row)));
        }
    }
    Ok(broken)
}

/// Rows, and which constraint each of them breaks; `None` if that can't be told, because an expression fails.
async fn ask(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    checks: &CheckStatement,
) -> Result<Option<Vec<(usize, usize)>>, SinkError> {
    let failed = |error| classify("looking for rows that break a constraint", error);
    let bind = |range: Range<usize>| {
        let bound = row_write.rows.bind_columns(&checks.sql, &checks.columns, range.clone());
        bound.map(|bound| (range.start, bound))
    };
    let bound: Result<Vec<_>, _> = row_write.rows.ranges().into_iter().map(bind).collect();
    let Ok(bound) = bound else { return Ok(None) };
    connection.savepoint("SAVEPOINT checks").await?;
    let mut told = Vec::new();
    for (start, bound) in bound {
        let answered = match connection.prepare(&bound.sql).await {
            Ok(statement) => connection.client.query(&statement, &bound.values()).await,
            Err(error) => Err(error),
        };
        connection.deadline.record_activity();
        let rows = match answered {
            Ok(rows) => rows,
            Err(error) if is_connection_lost(&error) || error.as_db_error().is_none() => {
                return Err(failed(error));
            }
            Err(error) => {
                tracing::debug!(table = row_write.rows.table(), %error, "constraints can't be evaluated alone");
                connection.savepoint("ROLLBACK TO checks; RELEASE checks").await?;
                return Ok(None);
            }
        };
        for row in rows {
            let (at, check): (i64, i32) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            // Postgres counts from 1.
            let at = usize::try_from(at - 1).unwrap_or_default();
            told.push((start + at, usize::try_from(check).unwrap_or(usize::MAX)));
        }
    }
    connection.savepoint("RELEASE checks").await?;
    Ok(Some(told))
}

/// Whether the server refuses the row for this constraint.
async fn is_refused(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    row: usize,
    check: &str,
) -> Result<bool, SinkError> {
    row_write.check_columns(connection).await?;
    connection.savepoint("SAVEPOINT checks").await?;
    let answer = row_write.write(connection, row..row + 1).await;
    let is_about_it = match answer {
        Ok(_) => false,
        Err(SinkError::Data(error)) => {
            let db: Option<&DbError> =
                error.cause::<tokio_postgres::Error>().and_then(tokio_postgres::Error::as_db_error);
            db.is_some_and(|db| {
                *db.code() == SqlState::CHECK_VIOLATION && db.constraint() == Some(check)
            })
        }
        Err(other) => return Err(other),
    };
    connection.savepoint("ROLLBACK TO checks; RELEASE checks").await?;
    Ok(is_about_it)
}
