//! One epoch in one transaction, and what becomes of it.

pub(super) mod drift;
pub(super) mod ledger;
mod ledger_values;
pub(super) mod lost_epochs;
pub(super) mod plan;
pub(super) mod preflight;
pub(super) mod repair;
pub(super) mod schema_changes;
pub(super) mod transaction;
pub(super) mod with_savepoints;

use std::borrow::Cow;

use self::drift::TargetDrift;
use self::ledger::Ledger;
use self::plan::EpochPlan;
use self::transaction::{CommitFailure, CommitOutcome, roll_back};
use self::with_savepoints::RefusalPolicy;
use crate::model::{Changelog, Epoch, EpochCommit, LedgerPosition};
use crate::resilience::FloodGauge;
use crate::sink::history::MOST_SINCE;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::session::DatabaseSession;
use crate::sink::postgres::config::PostgresConfig;
use crate::sink::postgres::target::current;
use crate::sink::postgres::targets::Targets;
use crate::sink::{LedgerRow, SinkError, new_run_id};

/// Commits the epochs of one run.
pub(super) struct EpochCommitter {
    schema: String,
    ledger: Ledger,
    floods: FloodGauge,
    drift: TargetDrift,
    /// Generations of the queue that are surely in the database.
    known_generations: usize,
}

impl EpochCommitter {
    pub(super) fn new(config: &PostgresConfig, pipeline: String) -> Self {
        Self {
            schema: config.schema.clone(),
            ledger: Ledger::new(&config.schema, pipeline, new_run_id()),
            floods: FloodGauge::new(config.max_refused_percent),
            drift: TargetDrift::default(),
            known_generations: 0,
        }
    }

    pub(super) fn pipeline(&self) -> &str {
        &self.ledger.pipeline
    }

    pub(super) fn run_id(&self) -> &str {
        &self.ledger.run_id
    }

    /// The rows of the ledger from an epoch on.
    pub(super) async fn epochs_from(
        &self,
        connection: &Connection,
        first: Epoch,
    ) -> Result<Vec<LedgerRow>, SinkError> {
        let before = first.0.checked_sub(1).map(Epoch);
        self.ledger.rows(&connection.client, before, MOST_SINCE + 1).await
    }

    /// Which results lack rows, as the database says.
    pub(super) async fn read_gaps(&mut self, connection: &Connection) -> Result<(), SinkError> {
        self.drift.gaps = self.ledger.gaps(&connection.client).await?;
        Ok(())
    }

    /// Where to go on with a queue.
    pub(super) async fn position(
        &mut self,
        connection: &Connection,
        queue: &str,
    ) -> Result<LedgerPosition, SinkError> {
        let position = self.ledger.resume(&connection.client, queue).await?;
        self.known_generations = position.generations.all().len();
        Ok(position)
    }

    /// Writes an epoch, and finds out what became of it.
    pub(super) async fn write(
        &mut self,
        session: &mut DatabaseSession,
        targets: &mut Targets,
        commit: &EpochCommit,
    ) -> Result<(), SinkError> {
        let landing = &current::newest(&commit.landing)?;
        let mut connection = session.take().await?;
        let mut written = self.write_once(&mut connection, targets, commit, landing).await;
        if let Err(CommitFailure::NotCommitted(
            error @ (SinkError::Data(_) | SinkError::Refused { .. }),
        )) = &written
            && commit.mended.is_empty()
        {
            let table =
                if let SinkError::Data(data) = error { data.table.as_deref() } else { None };
            self.drift.mark_drifted(table, commit.results.iter().map(|changes| &*changes.table));
            if connection.is_out_of_step {
                connection = session.take().await?;
            } else {
                roll_back(&mut connection).await?;
            }
            targets.refresh(&connection, &self.schema).await?;
            written = self.write_again(&mut connection, targets, commit, landing).await;
        }
        match written {
            Ok(CommitOutcome::Committed) => {}
            Ok(CommitOutcome::NotAbove) => self.ours_or_refused(&connection, commit.epoch).await?,
            Err(CommitFailure::NotCommitted(error)) => return Err(error),
            Err(CommitFailure::InDoubt(error)) => {
                drop(connection);
                connection = session.take().await?;
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
        self.known_generations = self.known_generations.max(commit.generations.all().len());
        self.ledger.has_committed(commit.epoch);
        session.put_back(connection);
        Ok(())
    }

    /// Relying on what the targets hold, unless they have drifted.
    async fn write_once(
        &self,
        connection: &mut Connection,
        targets: &Targets,
        commit: &EpochCommit,
        landing: &[Cow<'_, Changelog>],
    ) -> Result<CommitOutcome, CommitFailure> {
        let Self { schema, ledger, known_generations, drift, .. } = self;
        let known_generations = *known_generations;
        let plan = EpochPlan { ledger, schema, targets, known_generations, commit, landing };
        if !commit.mended.is_empty() {
            return plan.repair(connection).await;
        }
        let write = plan.prepare(|result| drift.affects(&result.name));
        write.map_err(CommitFailure::NotCommitted)?.run(connection, ledger).await
    }

    /// Row by row where that is needed, leaving out rows of results that are refused.
    async fn write_again(
        &mut self,
        connection: &mut Connection,
        targets: &Targets,
        commit: &EpochCommit,
        landing: &[Cow<'_, Changelog>],
    ) -> Result<CommitOutcome, CommitFailure> {
        let Self { schema, ledger, known_generations, floods, drift } = self;
        let known_generations = *known_generations;
        let plan = EpochPlan { ledger, schema, targets, known_generations, commit, landing };
        let policy = RefusalPolicy {
            floods,
            gaps: &mut drift.gaps,
            letters: targets.dead_letters.as_ref(),
            closed_at: commit.closed_at,
        };
        let write = plan.prepare(|_| true).map_err(CommitFailure::NotCommitted)?;
        write.run_with_savepoints(connection, ledger, policy).await
    }

    /// The epoch is in the ledger by this run; or it is refused, and why.
    async fn ours_or_refused(
        &self,
        connection: &Connection,
        epoch: Epoch,
    ) -> Result<(), SinkError> {
        if self.ledger.is_ours(connection, epoch).await? {
            return Ok(());
        }
        Err(self.ledger.refusal(connection, epoch).await?)
    }
}
