//! Rows of a result that keep each other out: a value that is unique has gone from one to the other in one epoch, so that
//! whichever is written first is refused, alone or together.

use super::bisect::Attempts;
use super::refusal::RowRefusal;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::target::row_write::RowWrite;
use crate::sink::{PreflightLevel, SinkError};

/// Writes the refused rows that fit as soon as the old rows of all of their keys are deleted; the others come back, and
/// their old rows stay. Inside an open transaction that stays usable.
///
/// # Errors
/// What is not about a row.
pub(crate) async fn write_swapped(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    mut refusals: Vec<RowRefusal>,
) -> Result<Vec<RowRefusal>, SinkError> {
    if !row_write.can_replace() {
        return Ok(refusals);
    }
    let is_tried = |refusal: &&RowRefusal| refusal.found_by == PreflightLevel::Trial;
    let mut rows: Vec<usize> = refusals.iter().filter(is_tried).map(|r| r.row).collect();
    // A row alone is not in its own way.
    while rows.len() > 1 {
        connection.savepoint("SAVEPOINT swap").await?;
        let fitting = replace(connection, row_write, &rows).await?;
        if fitting.len() == rows.len() {
            connection.savepoint("RELEASE swap").await?;
            refusals.retain(|refusal| !rows.contains(&refusal.row));
            return Ok(refusals);
        }
        // Old rows of those that are refused must stay, and may be in the way of the others.
        connection.savepoint("ROLLBACK TO swap; RELEASE swap").await?;
        rows = fitting;
    }
    Ok(refusals)
}

/// Deletes the old rows of these, and writes them; those that are not refused.
async fn replace(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    rows: &[usize],
) -> Result<Vec<usize>, SinkError> {
    for row in rows {
        match row_write.delete_old(connection, *row).await {
            Ok(()) => {}
            // Something else in the database needs it.
            Err(SinkError::Data(_)) => return Ok(Vec::new()),
            Err(other) => return Err(other),
        }
    }
    let mut attempts = Attempts::begin(connection, row_write).await?;
    let mut fitting = Vec::new();
    for row in rows {
        if attempts.write(*row..row + 1).await?.is_none() {
            fitting.push(*row);
        }
    }
    attempts.end().await?;
    Ok(fitting)
}
