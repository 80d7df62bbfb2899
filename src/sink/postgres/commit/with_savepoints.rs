//! An epoch once more, piece by piece, because the target refused a row of it.

use std::collections::HashSet;

use super::ledger::Ledger;
use super::transaction::{BY_INDEX, EpochWrite, Failure, READ_COMMITTED, Written, roll_back};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::dead_letters::letter_table;
use crate::sink::postgres::refused_rows::bisect::{
    Aim, Refusal, told, write_again, write_fitting, write_others,
};
use crate::sink::postgres::refused_rows::flood::FloodGauge;
use crate::sink::postgres::refused_rows::messages::{self, RefusedResult};
use crate::sink::postgres::target::row_write::{Origin, Piece, RowsPiece};
use crate::sink::postgres::target::table::Target;
use crate::sink::{Distrust, RefusedRow, SinkError};

/// What a careful run needs to judge refused rows.
pub(crate) struct Judge<'a> {
    pub(crate) floods: &'a mut FloodGauge,
    /// Results of which rows were refused.
    pub(crate) gaps: &'a mut HashSet<String>,
    /// Where refused rows of results go; not needed while there are none.
    pub(crate) letters: Option<&'a Target>,
    pub(crate) closed_at: std::time::SystemTime,
}

/// Rows of a piece that were refused.
type Refused<'w, 'a> = (&'w RowsPiece<'a>, Vec<Refusal>);

impl EpochWrite<'_> {
    /// As [`Self::run`], but refused rows of results are left out and become dead letters.
    ///
    /// # Errors
    /// [`SinkError::RowsRefused`] for landing rows, [`SinkError::Flood`]; nothing is written then.
    pub(crate) async fn run_carefully(
        &self,
        connection: &mut Connection,
        ledger: &Ledger,
        mut judge: Judge<'_>,
    ) -> Result<Written, Failure> {
        let written = self.write_pieces(connection, ledger, &mut judge).await;
        match written.map_err(Failure::Nothing)? {
            Written::NotAbove => Ok(Written::NotAbove),
            Written::Committed => self.finish(connection, ledger).await,
        }
    }

    /// Everything but the COMMIT.
    async fn write_pieces(
        &self,
        connection: &mut Connection,
        ledger: &Ledger,
        judge: &mut Judge<'_>,
    ) -> Result<Written, SinkError> {
        begin(connection).await?;
        if !ledger.is_taken(connection, &self.ledger_row).await? {
            roll_back(connection).await?;
            return Ok(Written::NotAbove);
        }
        let mut refused: Vec<Refused<'_, '_>> = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Own(bound) => {
                    bound.execute(connection).await?;
                }
                Piece::Rows(piece) => {
                    let refusals = write_fitting(connection, piece).await?;
                    refused.extend((!refusals.is_empty()).then_some((piece, refusals)));
                }
            }
        }
        for (piece, refusals) in &mut refused {
            let once_more = std::mem::take(refusals);
            *refusals = write_again(connection, piece, once_more).await?;
        }
        refused.retain(|(_, refusals)| !refusals.is_empty());
        self.truncate(connection).await?;
        let results = judge.judge(&refused)?;
        self.write_letters(connection, ledger, (&results, judge)).await?;
        Ok(Written::Committed)
    }

    async fn write_letters(
        &self,
        connection: &mut Connection,
        ledger: &Ledger,
        (results, judge): (&[RefusedResult], &Judge<'_>),
    ) -> Result<(), SinkError> {
        let (Some(target), false) = (judge.letters, results.is_empty()) else { return Ok(()) };
        let written_by = (ledger.pipeline.as_str(), ledger.run_id.as_str(), judge.closed_at);
        let inserts = letter_table::of_results(results, target, written_by)?;
        for bound in inserts {
            bound.execute(connection).await?;
        }
        ledger.add_dead_letters(self.epoch, results.len())?.execute(connection).await?;
        let names = results.iter().map(|row| row.result.clone()).collect();
        ledger.note_gaps(names).execute(connection).await?;
        Ok(())
    }
}

impl Judge<'_> {
    /// The refused rows of results; those of landing tables, or too many of any table, are errors.
    fn judge(&mut self, refused: &[Refused<'_, '_>]) -> Result<Vec<RefusedResult>, SinkError> {
        let (mut landing, mut results): (Vec<RefusedRow>, Vec<RefusedResult>) =
            (Vec::new(), Vec::new());
        for (piece, refusals) in refused {
            let counts = (refusals.len(), piece.rows.count());
            let first = refusals.first().map_or_else(String::new, |r| r.error.to_string());
            self.floods.note(piece.rows.table(), counts, &first)?;
            match piece.origin {
                Origin::Landing(changelog) => {
                    landing.extend(refusals.iter().map(|r| messages::of_landing(changelog, r)));
                }
                Origin::Upserts(_) | Origin::Deletes(_) => {
                    results.extend(
                        refusals.iter().filter_map(|r| messages::of_result(piece.origin, r)),
                    );
                }
            }
        }
        self.gaps.extend(results.iter().map(|row| row.result.clone()));
        match landing.is_empty() {
            true => Ok(results),
            false => Err(SinkError::RowsRefused { rows: landing }),
        }
    }
}

/// Deferred constraints are checked at once, so that the row is known that violates one.
pub(crate) async fn begin(connection: &mut Connection) -> Result<(), SinkError> {
    let with = format!("{READ_COMMITTED}; {BY_INDEX}; SET CONSTRAINTS ALL IMMEDIATE");
    let begun = connection.begin(&with).await;
    begun.map_err(|error| classify("beginning a transaction", error))
}

/// Which rows would be refused if they were written now, as far as `distrust` goes; writes nothing.
pub(crate) async fn try_out(
    connection: &mut Connection,
    piece: &RowsPiece<'_>,
    distrust: Distrust,
) -> Result<Vec<Refusal>, SinkError> {
    begin(connection).await?;
    let mut refusals = told(connection, piece).await?;
    if distrust == Distrust::Trial {
        refusals = write_others(connection, (piece, refusals), Aim::Trial).await?;
    }
    roll_back(connection).await?;
    Ok(refusals)
}
