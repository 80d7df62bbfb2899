//! Rows that a target refuses, found one by one, while all others are written.
//!
//! What the types of the columns and the CHECK constraints tell is set aside before anything is tried. Each attempt
//! to write the rest is in a savepoint. Of many rows the server itself looks for the others that it refuses
//! ([`super::server_bisect`]). Of few, or if it can't, what fails is cut around the row that the server names, or in two
//! if it names none, and attempts get as small as refused rows are frequent. In the end each refused row is tried alone.

use std::ops::Range;

use super::check_evaluation;
use super::refusal::RowRefusal;
use super::server_bisect;
use super::type_checks::misfits;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::target::row_write::{RowOrigin, RowWrite};
use crate::sink::{DataError, PreflightLevel, SinkError};

/// The most rows of a first attempt where errors don't name the row.
const FIRST_ROWS: usize = 256;
/// The fewest rows of an attempt, but for what failures leave.
const FEW_ROWS: usize = 32;

/// What rows are written for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Most likely only a few are refused, if any; and what they need may yet be written.
    Commit,
    /// Only to find those that are refused.
    Trial,
}

/// Writes the rows that are not refused, inside an open transaction that stays usable.
///
/// # Errors
/// What is not about a row.
pub(crate) async fn write_fitting(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
) -> Result<Vec<RowRefusal>, SinkError> {
    let rejected = rejected_upfront(connection, row_write).await?;
    write_others(connection, row_write, rejected, Aim::Commit).await
}

/// The rows that are refused whatever else is written, as far as that can be told without writing them.
pub(crate) async fn rejected_upfront(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
) -> Result<Vec<RowRefusal>, SinkError> {
    // A key that fits no row of the target is a deletion of nothing.
    if let RowOrigin::Deletes(_) = row_write.origin {
        return Ok(Vec::new());
    }
    let mut rejected = misfits(&row_write.rows);
    let broken = if rejected.is_empty() {
        check_evaluation::broken(connection, row_write).await?
    } else {
        let (rest, rows) = without(row_write, &rejected)?;
        let broken = check_evaluation::broken(connection, &rest).await?;
        broken.into_iter().map(|(row, error)| (rows[row], error)).collect()
    };
    let broken = broken.into_iter().map(|(row, error)| {
        let error = DataError { row: Some(row), ..error };
        RowRefusal { row, error, found_by: PreflightLevel::Checks }
    });
    rejected.extend(broken);
    rejected.sort_by_key(|refusal| refusal.row);
    Ok(rejected)
}

/// Writes all rows but those of `rejected`, which come back with those that are refused now.
pub(crate) async fn write_others(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    mut rejected: Vec<RowRefusal>,
    aim: Aim,
) -> Result<Vec<RowRefusal>, SinkError> {
    if rejected.is_empty() {
        return write_tried(connection, row_write, aim).await;
    }
    let (rest, rows) = without(row_write, &rejected)?;
    let refused = write_tried(connection, &rest, aim).await?;
    rejected.extend(
        refused.into_iter().map(|refusal| RowRefusal { row: rows[refusal.row], ..refusal }),
    );
    rejected.sort_by_key(|refusal| refusal.row);
    Ok(rejected)
}

/// The piece without these rows, and where the others are in it.
fn without<'p>(
    row_write: &'p RowWrite<'_>,
    rejected: &[RowRefusal],
) -> Result<(RowWrite<'p>, Vec<usize>), SinkError> {
    let mut is_kept = vec![true; row_write.rows.count()];
    rejected.iter().for_each(|refusal| is_kept[refusal.row] = false);
    let rows = (0..is_kept.len()).filter(|row| is_kept[*row]).collect();
    Ok((row_write.filter(&is_kept)?, rows))
}

/// Writes the rows that are not refused, by trying.
async fn write_tried(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    aim: Aim,
) -> Result<Vec<RowRefusal>, SinkError> {
    let count = row_write.rows.count();
    let is_worth_it = |rest: &Range<usize>| rest.len() >= server_bisect::WORTH_TABLES;
    let mut may_stage = true;
    let mut attempts = Attempts::begin(connection, row_write).await?;
    if aim == Aim::Trial && is_worth_it(&(0..count)) {
        match server_bisect::write(attempts.connection, row_write, 0..count).await? {
            Some(refusals) => return attempts.end().await.map(|()| refusals),
            None => may_stage = false,
        }
    }
    let mut plan = Plan::new(count, row_write.tells_rows());
    let mut refusals = Vec::new();
    while let Some(range) = plan.next() {
        let Some(error) = attempts.write(range.clone()).await? else {
            plan.fits(&range);
            continue;
        };
        let rest = range.start..count;
        if std::mem::take(&mut may_stage)
            && is_worth_it(&rest)
            && let Some(found) = server_bisect::write(attempts.connection, row_write, rest).await?
        {
            refusals.extend(found);
            break;
        }
        let row = plan.fails(range, error.row);
        refusals.extend(row.map(|row| refused(row, error)));
    }
    attempts.end().await?;
    match aim {
        Aim::Commit => Ok(refusals),
        Aim::Trial => write_again(connection, row_write, refusals).await,
    }
}

fn refused(row: usize, error: DataError) -> RowRefusal {
    RowRefusal { row, error, found_by: PreflightLevel::Trial }
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

/// The rows that failed alone, once more: what they needed may have come after them.
pub(crate) async fn write_again(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    refusals: Vec<RowRefusal>,
) -> Result<Vec<RowRefusal>, SinkError> {
    if refusals.iter().all(|refusal| refusal.found_by != PreflightLevel::Trial) {
        return Ok(refusals);
    }
    let mut still = Vec::new();
    let mut attempts = Attempts::begin(connection, row_write).await?;
    for refusal in refusals {
        let row = refusal.row;
        match refusal.found_by {
            PreflightLevel::Checks => still.push(refusal),
            PreflightLevel::Trial => {
                let error = attempts.write(row..row + 1).await?;
                still.extend(error.map(|error| refused(row, error)));
            }
        }
    }
    attempts.end().await?;
    Ok(still)
}

/// Attempts to write rows, one after the other, each in a savepoint.
pub(super) struct Attempts<'a, 'p> {
    connection: &'a mut Connection,
    row_write: &'a RowWrite<'p>,
}

impl<'a, 'p> Attempts<'a, 'p> {
    pub(super) async fn begin(
        connection: &'a mut Connection,
        row_write: &'a RowWrite<'p>,
    ) -> Result<Self, SinkError> {
        row_write.check_columns(connection).await?;
        connection.savepoint("SAVEPOINT part").await?;
        Ok(Self { connection, row_write })
    }

    /// `None`: the rows are written.
    pub(super) async fn write(
        &mut self,
        range: Range<usize>,
    ) -> Result<Option<DataError>, SinkError> {
        match self.row_write.write(self.connection, range).await {
            Ok(_) => {
                self.connection.savepoint("RELEASE part; SAVEPOINT part").await?;
                Ok(None)
            }
            Err(SinkError::Data(error)) => {
                // It stays, for the next attempt.
                self.connection.savepoint("ROLLBACK TO part").await?;
                Ok(Some(error))
            }
            Err(other) => Err(other),
        }
    }

    pub(super) async fn end(self) -> Result<(), SinkError> {
        self.connection.savepoint("RELEASE part").await
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
