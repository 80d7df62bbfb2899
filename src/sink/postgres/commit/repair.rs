//! Rows of results that were refused, once more: the target is made to hold what they are today.
//!
//! Row by row, each in a savepoint, so that each says what became of it. There are few, and nobody waits for them
//! but who has asked.

use super::plan::EpochPlan;
use super::transaction::{CommitFailure, CommitOutcome, EpochWrite, roll_back};
use super::with_savepoints::begin;
use crate::model::{Mending, ReplayOutcome, Replayed, RowLetter};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::dead_letters::replay_outcomes;
use crate::sink::postgres::refused_rows::messages;
use crate::sink::postgres::refused_rows::refusal::RowRefusal;
use crate::sink::postgres::target::row_write::{RowOrigin, RowWrite};
use crate::sink::{DataError, PreflightLevel, SinkError};

/// A row on its way, and the letters about it.
struct RepairTask<'m, 'a> {
    row_write: &'m RowWrite<'a>,
    row: usize,
    letters: &'m [RowLetter],
}

impl EpochPlan<'_> {
    /// Makes the targets hold the rows of `commit.mended`, and settles their letters.
    pub(crate) async fn repair(
        &self,
        connection: &mut Connection,
    ) -> Result<CommitOutcome, CommitFailure> {
        let write = EpochWrite {
            epoch: self.commit.epoch,
            ledger_row: self.ledger.insert(self.commit).map_err(CommitFailure::NotCommitted)?,
            writes: Vec::new(),
            truncates: Vec::new(),
        };
        let written = self.write_mended(connection, &write).await;
        match written.map_err(CommitFailure::NotCommitted)? {
            CommitOutcome::NotAbove => Ok(CommitOutcome::NotAbove),
            CommitOutcome::Committed => write.finish(connection, self.ledger).await,
        }
    }

    /// Everything but the COMMIT.
    async fn write_mended(
        &self,
        connection: &mut Connection,
        write: &EpochWrite<'_>,
    ) -> Result<CommitOutcome, SinkError> {
        let Self { ledger, schema, targets, commit, .. } = *self;
        begin(connection).await?;
        if !ledger.is_taken(connection, &write.ledger_row).await? {
            roll_back(connection).await?;
            return Ok(CommitOutcome::NotAbove);
        }
        let mut writes = Vec::new();
        for mending in &commit.mended {
            let target = targets.result_of(&mending.changes.table)?;
            writes.push(target.mending(&mending.changes, commit.closed_at)?);
        }
        let mut settled = commit.replayed.clone();
        settled.extend(mend_all(connection, &tasks(&commit.mended, &writes)).await?);
        if let Some(bound) = replay_outcomes::update(schema, &settled, commit.closed_at) {
            bound.execute(connection).await?;
        }
        Ok(CommitOutcome::Committed)
    }
}

/// Deletes of all results first: they make room in other unique indexes.
fn tasks<'m, 'a>(
    mended: &'m [Mending],
    writes: &'m [[Option<RowWrite<'a>>; 2]],
) -> Vec<RepairTask<'m, 'a>> {
    let of = |which: usize| {
        mended.iter().zip(writes).flat_map(move |(mending, writes)| {
            let letters = if which == 0 { &mending.of_deletes } else { &mending.of_upserts };
            let task = move |row_write: &'m RowWrite<'a>| {
                letters.iter().enumerate().map(move |(row, letters)| RepairTask {
                    row_write,
                    row,
                    letters,
                })
            };
            writes[which].iter().flat_map(task)
        })
    };
    of(0).chain(of(1)).collect()
}

async fn mend_all(
    connection: &mut Connection,
    tasks: &[RepairTask<'_, '_>],
) -> Result<Vec<Replayed>, SinkError> {
    let (mut settled, mut failed) = (Vec::new(), Vec::new());
    for task in tasks {
        match attempt(connection, task).await? {
            Ok(rows) => settled.extend(written(task, rows)),
            Err(_) => failed.push(task),
        }
    }
    // What they needed may have come after them.
    for task in failed {
        match attempt(connection, task).await? {
            Ok(rows) => settled.extend(written(task, rows)),
            Err(error) => settled.extend(refused_again(task, error)),
        }
    }
    Ok(settled)
}

/// How many rows changed.
async fn attempt(
    connection: &mut Connection,
    task: &RepairTask<'_, '_>,
) -> Result<Result<u64, DataError>, SinkError> {
    connection.savepoint("SAVEPOINT part").await?;
    let ran = task.row_write.write(connection, task.row..task.row + 1).await;
    let (ran, end) = match ran {
        Ok(rows) => (Ok(rows), "RELEASE part"),
        Err(SinkError::Data(error)) => (Err(error), "ROLLBACK TO part; RELEASE part"),
        Err(other) => return Err(other),
    };
    connection.savepoint(end).await?;
    Ok(ran)
}

/// The newest letter that asked for what was done is replayed; the others are superseded by it.
fn written(task: &RepairTask<'_, '_>, rows: u64) -> Vec<Replayed> {
    let is_deletion = matches!(task.row_write.origin, RowOrigin::Deletes(_));
    let did = task.letters.iter().find(|letter| letter.is_deletion == is_deletion && rows > 0);
    let outcome = |letter: &RowLetter| match did {
        Some(did) if did == letter => ReplayOutcome::Applied,
        _ => ReplayOutcome::Superseded,
    };
    let settled = |letter: &RowLetter| Replayed { id: letter.id, outcome: outcome(letter) };
    task.letters.iter().map(settled).collect()
}

fn refused_again(task: &RepairTask<'_, '_>, error: DataError) -> Vec<Replayed> {
    let refusal = RowRefusal { row: task.row, error, found_by: PreflightLevel::Trial };
    let Some(refused) = messages::of_result(task.row_write.origin, &refusal) else {
        return Vec::new();
    };
    let settled = |letter: &RowLetter| {
        let (column, message) = (refused.column.clone(), refused.message.clone());
        Replayed { id: letter.id, outcome: ReplayOutcome::RefusedAgain { column, message } }
    };
    task.letters.iter().map(settled).collect()
}
