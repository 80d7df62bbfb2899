//! From what an epoch holds to what is sent, and what becomes of it.

pub(super) mod drift;
pub(super) mod ledger;
pub(super) mod preflight;
pub(super) mod repair;
pub(super) mod replay_outcomes;
pub(super) mod schema_changes;
pub(super) mod transaction;
pub(super) mod with_savepoints;

use self::transaction::{CommitFailure, CommitOutcome, EpochWrite, roll_back};
use self::with_savepoints::RefusalPolicy;
use crate::model::{Channel, Epoch, EpochCommit, ResultChanges};
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::dead_letters::letter_table;
use crate::sink::postgres::outbox::resends;
use crate::sink::postgres::refused_rows::flood::FloodGauge;
use crate::sink::postgres::target::row_write::{RowOrigin, RowWrite, TargetWrite, WriteMethod};
use crate::sink::postgres::target::rows::BoundStatement;
use crate::sink::postgres::target::truncate;
use crate::sink::postgres::{PostgresSink, outbox};

/// How an epoch is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteMode {
    /// Relying on what the targets hold.
    Delta,
    /// Each row whole.
    FullRows,
}

impl PostgresSink {
    /// The parts of an epoch's transaction.
    fn prepare<'a>(
        &'a self,
        commit: &'a EpochCommit,
        mode: WriteMode,
    ) -> Result<EpochWrite<'a>, SinkError> {
        let mut write = EpochWrite {
            epoch: commit.epoch,
            ledger_row: self.ledger.insert(commit)?,
            writes: Vec::new(),
            truncates: Vec::new(),
        };
        if commit.spools.spools().len() > self.known_spools {
            write.writes.push(TargetWrite::Statement(self.ledger.insert_spools(commit)));
        }
        for changelog in commit.landing.iter().filter(|changelog| !changelog.is_empty()) {
            let row_write = self.targets.landing_write(changelog, commit.closed_at)?;
            write.writes.extend(row_write.map(TargetWrite::Rows));
            if let Some(target) = self.targets.landing.get(&changelog.table.name) {
                write.truncates.extend(truncate::statements(changelog, target));
            }
        }
        for changes in commit.results.iter().filter(|changes| !changes.is_empty()) {
            if changes.table.channel != Channel::Table {
                self.post(commit, changes, &mut write)?;
                continue;
            }
            let target = self.targets.result_of(&changes.table)?;
            if changes.is_new_definition {
                write.writes.extend(target.delete_all().map(TargetWrite::Statement));
                let defined = self.ledger.define_result(&changes.table);
                write.writes.push(TargetWrite::Statement(defined));
                let names = std::slice::from_ref(&changes.table.name);
                write.writes.push(TargetWrite::Statement(self.ledger.close_gaps(names)));
            }
            if let Some((rows, sql)) = target.deletes(changes)? {
                let (method, origin) =
                    (WriteMethod::Statement(sql.to_owned()), RowOrigin::Deletes(changes));
                write.writes.push(TargetWrite::Rows(RowWrite { rows, method, origin }));
            }
            let has_drifted =
                mode == WriteMode::FullRows || self.drift.affects(&changes.table.name);
            let writes = match has_drifted {
                true => vec![target.whole(changes, commit.closed_at)?],
                false => target.by_difference(changes, commit.closed_at)?,
            };
            write.writes.extend(writes.into_iter().map(TargetWrite::Rows));
        }
        if !commit.retired.is_empty() {
            write.writes.push(TargetWrite::Statement(self.ledger.retire_results(&commit.retired)));
            write.writes.push(TargetWrite::Statement(self.ledger.close_gaps(&commit.retired)));
        }
        write.writes.extend(self.dead_letters(commit)?.into_iter().map(TargetWrite::Statement));
        let (replayed, at) = (&commit.replayed, commit.closed_at);
        let settled = replay_outcomes::update(&self.config.schema, replayed, at);
        write.writes.extend(settled.map(TargetWrite::Statement));
        let place = (self.config.schema.as_str(), self.ledger.pipeline.as_str());
        write
            .writes
            .extend(resends::statements(commit, place)?.into_iter().map(TargetWrite::Statement));
        if !commit.schema_changes.is_empty() {
            let (schema, pipeline) = (&self.config.schema, &self.ledger.pipeline);
            let learned = schema_changes::insert(schema, pipeline, commit)?;
            write.writes.push(TargetWrite::Statement(learned));
        }
        Ok(write)
    }

    /// Adds what is to be posted, and notes a new definition.
    fn post(
        &self,
        commit: &EpochCommit,
        changes: &ResultChanges,
        write: &mut EpochWrite<'_>,
    ) -> Result<(), SinkError> {
        if changes.is_new_definition {
            write.writes.push(TargetWrite::Statement(self.ledger.define_result(&changes.table)));
        }
        let place = (self.config.schema.as_str(), self.ledger.pipeline.as_str());
        let rows = outbox::inserts(changes, commit, place)?;
        write.writes.extend(rows.into_iter().map(TargetWrite::Statement));
        Ok(())
    }

    fn dead_letters(&self, commit: &EpochCommit) -> Result<Vec<BoundStatement>, SinkError> {
        if commit.dead_letters.is_empty() {
            return Ok(Vec::new());
        }
        let target = self.targets.dead_letters()?;
        letter_table::inserts(commit, target, (&self.ledger.pipeline, &self.ledger.run_id))
    }

    /// Piece by piece, leaving out rows of results that are refused.
    async fn commit_with_savepoints(
        &mut self,
        connection: &mut Connection,
        commit: &EpochCommit,
    ) -> Result<CommitOutcome, CommitFailure> {
        let mut floods = std::mem::replace(&mut self.floods, FloodGauge::new(0));
        let mut gaps = std::mem::take(&mut self.drift.gaps);
        let policy = RefusalPolicy {
            floods: &mut floods,
            gaps: &mut gaps,
            letters: self.targets.dead_letters.as_ref(),
            closed_at: commit.closed_at,
        };
        let written = match self.prepare(commit, WriteMode::FullRows) {
            Ok(write) => write.run_with_savepoints(connection, &self.ledger, policy).await,
            Err(error) => Err(CommitFailure::NotCommitted(error)),
        };
        (self.floods, self.drift.gaps) = (floods, gaps);
        written
    }

    /// Writes an epoch, and finds out what became of it.
    pub(crate) async fn write(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let mut connection = self.connect().await?;
        let mut written = match commit.mended.as_slice() {
            [] => self.prepare(commit, WriteMode::Delta)?.run(&mut connection, &self.ledger).await,
            _ => self.mend(&mut connection, commit).await,
        };
        if let Err(CommitFailure::NotCommitted(
            error @ (SinkError::Data(_) | SinkError::Refused { .. }),
        )) = &written
            && commit.mended.is_empty()
        {
            let table =
                if let SinkError::Data(data) = error { data.table.as_deref() } else { None };
            self.drift.mark_drifted(table, commit.results.iter().map(|changes| &*changes.table));
            match connection.is_out_of_step {
                true => connection = self.connect().await?,
                false => roll_back(&mut connection).await?,
            }
            self.check_again(&connection).await?;
            written = self.commit_with_savepoints(&mut connection, commit).await;
        }
        match written {
            Ok(CommitOutcome::Committed) => {}
            Ok(CommitOutcome::NotAbove) => self.ours_or_fenced(&connection, commit.epoch).await?,
            Err(CommitFailure::NotCommitted(error)) => return Err(error),
            Err(CommitFailure::InDoubt(error)) => {
                drop(connection);
                connection = self.connect().await?;
                // Not there: rolled back, or the old server process is still at it. The next
                // `commit` waits for that process at the ledger's primary key and then knows.
                if !self.ledger.is_ours(&connection, commit.epoch).await? {
                    return Err(error);
                }
                tracing::warn!(
                    epoch = commit.epoch.0,
                    "answer of a commit was lost; it is in the ledger"
                );
            }
        }
        self.drift.end_epoch();
        self.known_spools = self.known_spools.max(commit.spools.spools().len());
        self.connection = Some(connection);
        Ok(())
    }

    /// The epoch is in the ledger by our hand, or by somebody else's.
    async fn ours_or_fenced(&self, connection: &Connection, epoch: Epoch) -> Result<(), SinkError> {
        match self.ledger.is_ours(connection, epoch).await? {
            true => Ok(()),
            false => Err(SinkError::Fenced { pipeline: self.ledger.pipeline.clone(), epoch }),
        }
    }
}
