//! Rows that a target refuses, found one by one, while all others are written.
//!
//! Each attempt has a savepoint of its own. What fails is cut around the row that the server names, or in two
//! if it names none, and attempts get as small as refused rows are frequent. In the end each refused row is
//! tried alone.

use std::ops::Range;

use super::connection::Connection;
use super::fault::classify;
use super::piece::RowsPiece;
use crate::sink::{DataError, SinkError};

/// The most rows of a first attempt where errors don't name the row.
const FIRST_ROWS: usize = 256;
/// The fewest rows of an attempt, but for what failures leave.
const FEW_ROWS: usize = 32;

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
    let mut plan = Plan::new(piece.rows.count(), piece.tells_rows());
    let mut refusals = Vec::new();
    while let Some(range) = plan.next() {
        match attempt(connection, piece, range.clone()).await? {
            None => plan.fits(&range),
            Some(error) => {
                let row = plan.fails(range, error.row);
                refusals.extend(row.map(|row| Refusal { row, error }));
            }
        }
    }
    Ok(refusals)
}

/// What is still to be tried.
struct Plan {
    /// The last one comes next.
    open: Vec<Range<usize>>,
    /// The most rows of the next attempt.
    step: usize,
}

impl Plan {
    fn new(count: usize, tells_rows: bool) -> Self {
        let step = if tells_rows { count } else { FIRST_ROWS };
        let mut plan = Self { open: Vec::new(), step: step.max(FEW_ROWS) };
        plan.add(0..count);
        plan
    }

    fn next(&mut self) -> Option<Range<usize>> {
        let range = self.open.pop()?;
        let end = range.end.min(range.start + self.step);
        self.add(end..range.end);
        Some(range.start..end)
    }

    fn add(&mut self, range: Range<usize>) {
        self.open.extend(Some(range).filter(|range| !range.is_empty()));
    }

    fn fits(&mut self, range: &Range<usize>) {
        if range.len() >= self.step {
            self.step *= 2;
        }
    }

    /// The row that is to blame, if that is known.
    fn fails(&mut self, range: Range<usize>, named: Option<usize>) -> Option<usize> {
        if range.len() == 1 {
            return Some(range.start);
        }
        let Some(row) = named.filter(|row| range.contains(row)) else {
            let half = range.len() / 2;
            self.step = half.max(FEW_ROWS);
            self.add(range.start + half..range.end);
            self.add(range.start..range.start + half);
            return None;
        };
        self.step = (2 * (row - range.start + 1)).max(FEW_ROWS);
        self.add(row + 1..range.end);
        self.add(range.start..row);
        Some(row)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Which rows are refused, how many attempts it took, and how many rows were sent.
    fn played(count: usize, bad: &[usize], tells_rows: bool) -> (Vec<usize>, usize, usize) {
        let mut plan = Plan::new(count, tells_rows);
        let (mut refused, mut attempts, mut sent) = (Vec::new(), 0, 0);
        let mut written = vec![0; count];
        while let Some(range) = plan.next() {
            attempts += 1;
            sent += range.len();
            match bad.iter().find(|row| range.contains(row)) {
                Some(row) => refused.extend(plan.fails(range, tells_rows.then_some(*row))),
                None => {
                    range.clone().for_each(|row| written[row] += 1);
                    plan.fits(&range);
                }
            }
        }
        let is_once = |row: usize| written[row] == usize::from(!bad.contains(&row));
        assert!((0..count).all(is_once), "each neighbour is written once, and no refused row");
        (refused, attempts, sent)
    }

    #[test]
    fn each_refused_row_is_found_and_each_neighbour_written_once() {
        for tells_rows in [false, true] {
            for bad in [&[][..], &[0], &[9999], &[6789], &[0, 1, 2, 3, 500, 501, 9998, 9999]] {
                assert_eq!(played(10_000, bad, tells_rows).0, bad, "{tells_rows}");
            }
            let all: Vec<usize> = (0..100).collect();
            assert_eq!(played(100, &all, tells_rows).0, all, "{tells_rows}");
            assert_eq!(played(0, &[], tells_rows), (Vec::new(), 0, 0));
        }
    }

    #[test]
    fn one_bad_row_in_a_hundred_costs_a_few_attempts_and_sends_rows_a_few_times() {
        let bad: Vec<usize> = (0..10_000).filter(|row| row % 100 == 7).collect();
        let (refused, attempts, sent) = played(10_000, &bad, true);
        assert_eq!(refused, bad);
        assert!(attempts <= 4 * bad.len() && sent <= 40_000, "{attempts} attempts, {sent} rows");
        let (refused, attempts, sent) = played(10_000, &bad, false);
        assert_eq!(refused, bad);
        assert!(attempts <= 16 * bad.len() && sent <= 30_000, "{attempts} attempts, {sent} rows");
        let (_, attempts, sent) = played(10_000, &[6789], true);
        assert!(attempts <= 5 && sent <= 20_000, "{attempts} attempts, {sent} rows");
    }

    #[test]
    fn a_name_that_can_not_be_is_no_name() {
        let mut plan = Plan::new(10, true);
        assert_eq!(plan.next(), Some(0..10));
        assert_eq!(plan.fails(0..10, Some(99)), None);
        assert_eq!((plan.next(), plan.next(), plan.next()), (Some(0..5), Some(5..10), None));
    }
}
