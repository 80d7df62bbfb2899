//! An epoch once more, piece by piece, because the target refused a row of it.

use std::collections::HashSet;

use metrics::counter;

use super::ledger::Ledger;
use super::transaction::{
    BY_INDEX, CommitFailure, CommitOutcome, EpochWrite, READ_COMMITTED, roll_back,
};
use crate::model::ErrorType;
use crate::resilience::FloodGauge;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::dead_letters::letter_table;
use crate::sink::postgres::refused_rows::bisect::{
    Aim, rejected_upfront, write_again, write_fitting, write_others,
};
use crate::sink::postgres::refused_rows::messages::{self, RefusedResult};
use crate::sink::postgres::refused_rows::refusal::RowRefusal;
use crate::sink::postgres::refused_rows::swaps::write_swapped;
use crate::sink::postgres::target::row_write::{RowOrigin, RowWrite, TargetWrite};
use crate::sink::postgres::target::table::TargetTable;
use crate::sink::{PreflightLevel, RefusedRow, SinkError};
use crate::telemetry::names;

/// What a careful run needs to judge refused rows.
pub(crate) struct RefusalPolicy<'a> {
    pub(crate) floods: &'a mut FloodGauge,
    /// Results that lack refused rows.
    pub(crate) gaps: &'a mut HashSet<String>,
    /// Where refused rows of results go; not needed while there are none.
    pub(crate) letters: Option<&'a TargetTable>,
    pub(crate) closed_at: std::time::SystemTime,
}

/// Rows of a piece that were refused.
type Refused<'w, 'a> = (&'w RowWrite<'a>, Vec<RowRefusal>);

impl EpochWrite<'_> {
    /// As [`Self::run`], but refused rows of results are left out and become dead letters.
    ///
    /// # Errors
    /// [`SinkError::RowsRefused`] for landing rows, [`SinkError::Flood`]; nothing is written then.
    pub(crate) async fn run_with_savepoints(
        &self,
        connection: &mut Connection,
        ledger: &Ledger,
        mut policy: RefusalPolicy<'_>,
    ) -> Result<CommitOutcome, CommitFailure> {
        let written = self.write_all(connection, ledger, &mut policy).await;
        match written.map_err(CommitFailure::NotCommitted)? {
            CommitOutcome::NotAbove => Ok(CommitOutcome::NotAbove),
            CommitOutcome::Committed => self.finish(connection, ledger).await,
        }
    }

    /// Everything but the COMMIT.
    async fn write_all(
        &self,
        connection: &mut Connection,
        ledger: &Ledger,
        policy: &mut RefusalPolicy<'_>,
    ) -> Result<CommitOutcome, SinkError> {
        begin(connection).await?;
        if !ledger.is_taken(connection, &self.ledger_row).await? {
            roll_back(connection).await?;
            return Ok(CommitOutcome::NotAbove);
        }
        let mut refused: Vec<Refused<'_, '_>> = Vec::new();
        for row_write in &self.writes {
            match row_write {
                TargetWrite::Rows(row_write) => {
                    let refusals = write_fitting(connection, row_write).await?;
                    refused.extend((!refusals.is_empty()).then_some((row_write, refusals)));
                }
                own @ (TargetWrite::Statement(_) | TargetWrite::Large(_)) => {
                    own.run(connection).await?;
                }
            }
        }
        for (row_write, refusals) in &mut refused {
            let once_more = std::mem::take(refusals);
            let still = write_again(connection, row_write, once_more).await?;
            *refusals = write_swapped(connection, row_write, still).await?;
        }
        refused.retain(|(_, refusals)| !refusals.is_empty());
        self.truncate(connection).await?;
        let results = policy.apply(&refused)?;
        self.write_letters(connection, ledger, &results, policy).await?;
        Ok(CommitOutcome::Committed)
    }

    async fn write_letters(
        &self,
        connection: &mut Connection,
        ledger: &Ledger,
        results: &[RefusedResult],
        policy: &RefusalPolicy<'_>,
    ) -> Result<(), SinkError> {
        let (Some(target), false) = (policy.letters, results.is_empty()) else { return Ok(()) };
        let written_by = ledger.written_by(policy.closed_at);
        for letters in letter_table::of_results(results, target, written_by)? {
            letters.run(connection).await?;
        }
        ledger.add_dead_letters(self.epoch, results.len())?.execute(connection).await?;
        let refused = ErrorType::RowRefused.as_str();
        counter!(names::DEAD_LETTERS, "type" => refused).increment(results.len() as u64);
        let names = results.iter().map(|row| row.result.clone()).collect();
        ledger.note_gaps(names).execute(connection).await?;
        Ok(())
    }
}

impl RefusalPolicy<'_> {
    /// The refused rows of results; those of landing tables, or too many of any table, are errors.
    fn apply(&mut self, refused: &[Refused<'_, '_>]) -> Result<Vec<RefusedResult>, SinkError> {
        let (mut landing, mut results): (Vec<RefusedRow>, Vec<RefusedResult>) =
            (Vec::new(), Vec::new());
        for (row_write, refusals) in refused {
            let first = refusals.first().map_or_else(String::new, |r| r.error.to_string());
            let rows = &row_write.rows;
            self.floods.note(rows.table(), refusals.len(), rows.count(), &first)?;
            match row_write.origin {
                RowOrigin::Landing(changelog) => {
                    landing.extend(refusals.iter().map(|r| messages::of_landing(changelog, r)));
                }
                RowOrigin::Upserts(_) | RowOrigin::Deletes(_) => {
                    results.extend(
                        refusals.iter().filter_map(|r| messages::of_result(row_write.origin, r)),
                    );
                }
            }
        }
        self.gaps.extend(results.iter().map(|row| row.result.clone()));
        if landing.is_empty() { Ok(results) } else { Err(SinkError::RowsRefused { rows: landing }) }
    }
}

/// Deferred constraints are checked at once, so that the row is known that violates one.
pub(crate) async fn begin(connection: &mut Connection) -> Result<(), SinkError> {
    let statements = format!("{BY_INDEX}; SET CONSTRAINTS ALL IMMEDIATE");
    let begun = connection.begin(READ_COMMITTED, &statements).await;
    begun.map_err(|error| classify("beginning a transaction", error))
}

/// Which rows would be refused if they were written now, as far as `level` goes, and after `before`; writes nothing.
pub(crate) async fn try_out(
    connection: &mut Connection,
    before: Option<&RowWrite<'_>>,
    row_write: &RowWrite<'_>,
    level: PreflightLevel,
) -> Result<Vec<RowRefusal>, SinkError> {
    begin(connection).await?;
    if let Some(before) = before.filter(|_| level == PreflightLevel::Trial) {
        let _refused_alone = write_fitting(connection, before).await?;
    }
    let mut refusals = rejected_upfront(connection, row_write).await?;
    if level == PreflightLevel::Trial {
        refusals = write_others(connection, row_write, refusals, Aim::Trial).await?;
    }
    roll_back(connection).await?;
    Ok(refusals)
}
