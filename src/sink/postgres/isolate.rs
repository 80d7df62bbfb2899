//! Rows that a target refuses, found one by one, while all others are written.
//!
//! Each attempt has a savepoint of its own. What fails is cut in two, around the row that the server
//! names if it names one, until a row has failed alone.

use std::ops::Range;

use super::connection::Connection;
use super::fault::classify;
use super::piece::RowsPiece;
use crate::sink::{DataError, SinkError};

/// The most rows of a first attempt where errors don't name the row.
const FIRST_ROWS: usize = 256;

/// A row that failed alone.
pub(super) struct Refusal {
    pub(super) row: usize,
    pub(super) error: DataError,
}

/// Writes the rows that are not refused, inside an open transaction that stays usable.
///
/// # Errors
/// What is not about a row.
pub(super) async fn write_fitting(
    connection: &mut Connection,
    piece: &RowsPiece<'_>,
) -> Result<Vec<Refusal>, SinkError> {
    let count = piece.rows.count();
    let step = if piece.tells_rows() { count.max(1) } else { FIRST_ROWS };
    let mut open: Vec<Range<usize>> =
        (0..count).step_by(step).map(|start| start..(start + step).min(count)).rev().collect();
    let mut refusals = Vec::new();
    while let Some(range) = open.pop() {
        let Some(error) = attempt(connection, piece, range.clone()).await? else { continue };
        if range.len() == 1 {
            refusals.push(Refusal { row: range.start, error });
        } else {
            open.extend(parts(range, error.row));
        }
    }
    Ok(refusals)
}

/// The rows that were refused, once more: what they needed may have come after them.
pub(super) async fn write_again(
    connection: &mut Connection,
    piece: &RowsPiece<'_>,
    refusals: Vec<Refusal>,
) -> Result<Vec<Refusal>, SinkError> {
    let mut still = Vec::new();
    for refusal in refusals {
        let row = refusal.row;
        if let Some(error) = attempt(connection, piece, row..row + 1).await? {
            still.push(Refusal { row, error });
        }
    }
    Ok(still)
}

/// `None`: the rows are written.
async fn attempt(
    connection: &mut Connection,
    piece: &RowsPiece<'_>,
    range: Range<usize>,
) -> Result<Option<DataError>, SinkError> {
    let failed = |error| classify("looking for rows that are refused", error);
    connection.client.batch_execute("SAVEPOINT part").await.map_err(failed)?;
    connection.silence.is_broken();
    match piece.write(connection, range).await {
        Ok(()) => {
            connection.client.batch_execute("RELEASE SAVEPOINT part").await.map_err(failed)?;
            Ok(None)
        }
        Err(SinkError::Data(error)) => {
            let back = "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part";
            connection.client.batch_execute(back).await.map_err(failed)?;
            Ok(Some(error))
        }
        Err(other) => Err(other),
    }
}

/// The last part to be tried first.
fn parts(range: Range<usize>, named: Option<usize>) -> Vec<Range<usize>> {
    let parts = match named.filter(|row| range.contains(row)) {
        Some(row) => vec![row + 1..range.end, row..row + 1, range.start..row],
        None => {
            let middle = range.start + range.len() / 2;
            vec![middle..range.end, range.start..middle]
        }
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_around_the_row_that_is_named() {
        assert_eq!(parts(10..20, Some(12)), [13..20, 12..13, 10..12]);
        assert_eq!(parts(10..20, Some(10)), [11..20, 10..11]);
        assert_eq!(parts(10..20, Some(19)), [19..20, 10..19]);
        assert_eq!(parts(10..15, Some(99)), [12..15, 10..12], "a name that can't be is no name");
        assert_eq!(parts(10..12, None), [11..12, 10..11]);
    }
}
