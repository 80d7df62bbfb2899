//! Whether the database still has what was committed.
//!
//! After a failover to a standby that was behind, or from a restored backup, the ledger lacks epochs whose messages were
//! acknowledged. Two others remember them: the checkpoints, up to their interval, and this process, as long as it
//! runs. What only the process remembers goes to the checkpoints before it ends. A start compares the ledger with both, and goes on only if it has everything, or if the operator has accepted
//! the loss.

mod acceptance;
mod comparison;
mod lost_history;
mod recent_epochs;

pub(super) use acceptance::accept;
pub(super) use comparison::{CompareError, lost_in_checkpoints};
pub use lost_history::LostHistory;
use recent_epochs::RecentEpoch;
pub(super) use recent_epochs::RecentEpochs;

use comparison::CheckpointLoss;

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tracing::warn;

use crate::checkpoint::{CheckpointConfig, Checkpoints};
use crate::model::{AcceptedLoss, Epoch, LedgerEntry, LostEpochs, Table};
use crate::resilience::chain;
use crate::sink::postgres::LedgerReader;
use crate::sink::{LedgerHistory, SinkError};
use crate::telemetry::{Condition, Health, names};

/// How long a start waits for the checkpoints. They are compared when they are back.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a start can't say that nothing is lost.
#[derive(Debug)]
pub(super) enum HistoryError {
    Sink(SinkError),
    Lost(Box<LostHistory>),
}

impl From<SinkError> for HistoryError {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

/// What is known of the history of a pipeline beside its ledger.
pub(super) struct KnownHistory {
    pipeline: String,
    checkpoints: CheckpointConfig,
    recent: RecentEpochs,
    /// The newest lost epoch whose loss the operator accepts.
    accepts: Option<Epoch>,
    comparison: Comparison,
}

/// Whether the checkpoints were compared with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Pending,
    /// They were away; their writer does it when they are back.
    Deferred,
    Done,
}

impl KnownHistory {
    pub(super) fn new(
        pipeline: &str,
        checkpoints: &CheckpointConfig,
        accepts: Option<Epoch>,
    ) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            checkpoints: checkpoints.clone(),
            recent: RecentEpochs::new(pipeline),
            accepts,
            comparison: Comparison::Pending,
        }
    }

    /// To be told of each commit.
    pub(super) fn recent(&self) -> RecentEpochs {
        self.recent.clone()
    }

    pub(super) fn comparison(&self) -> Comparison {
        self.comparison
    }

    /// Lets the next start compare with the checkpoints once more.
    pub(super) fn doubt(&mut self) {
        self.comparison = Comparison::Pending;
    }

    /// Compares the ledger with what others remember. `landing` is where the events of the pipeline have landed. Says what
    /// is lost and accepted; it is to be noted by [`accept`] before anything else is committed.
    ///
    /// # Errors
    /// [`HistoryError::Lost`] if epochs are lost and that is not accepted.
    pub(super) async fn confirm(
        &mut self,
        ledger: &mut LedgerReader,
        landing: &[Arc<Table>],
        health: &Health,
    ) -> Result<Option<AcceptedLoss>, HistoryError> {
        let mut lost = LostEpochs::default();
        let mut known_to = None;
        if self.comparison == Comparison::Pending {
            let compared = tokio::time::timeout(PATIENCE, self.compare(ledger)).await;
            match compared.unwrap_or_else(|_| Err(CompareError::TimedOut)) {
                Ok(found) => {
                    (lost, known_to) = (found.lost, found.newest);
                    self.comparison = Comparison::Done;
                }
                Err(CompareError::Sink(error)) => return Err(error.into()),
                Err(away) => {
                    tell_away(&away, health);
                    self.comparison = Comparison::Deferred;
                }
            }
        }
        let history = ledger.history().await?;
        gauge!(names::ACCEPTED_LOST_EPOCHS).set(accepted_epochs(&history));
        let mut unwritten = Vec::new();
        for RecentEpoch { entry, is_own } in self.recent.above(known_to) {
            let recorded = entry.recorded();
            if history.lacks(&recorded) {
                lost.add(&recorded);
                unwritten.extend(is_own.then_some(entry));
            }
        }
        let traces = match history.newest {
            None => ledger.traces(landing).await?,
            Some(_) => None,
        };
        if lost.is_empty() && traces.is_none() {
            self.recent.note_ledger(&history);
            return Ok(None);
        }
        let generation = traces.as_ref().and_then(|traces| traces.generation);
        self.doubt();
        if self.accepts == Some(lost.newest()) {
            return Ok(Some(AcceptedLoss { lost, generation }));
        }
        self.keep(&unwritten).await;
        Err(HistoryError::Lost(Box::new(LostHistory {
            pipeline: self.pipeline.clone(),
            newest: history.newest,
            lost,
            traces,
            refused: self.accepts,
        })))
    }

    /// Writes lost epochs that no checkpoint has and that this process remembers into the checkpoints: the next start says
    /// the same of them.
    async fn keep(&self, lost: &[LedgerEntry]) {
        let written = async {
            let checkpoints = Checkpoints::new(&self.checkpoints, &self.pipeline)?;
            let newest = checkpoints.newest().await?;
            let rest = lost.iter().filter(|entry| newest.is_none_or(|it| entry.epoch > it));
            checkpoints.write(&rest.cloned().collect::<Vec<_>>()).await?;
            Ok(())
        };
        let written = tokio::time::timeout(PATIENCE, written).await;
        if let Err(error) = written.unwrap_or(Err(CompareError::TimedOut)) {
            warn!(
                error = chain(&error),
                "lost epochs can't be kept in a checkpoint: what is said of them now, the next start may not know"
            );
        }
    }

    async fn compare(&self, ledger: &mut LedgerReader) -> Result<CheckpointLoss, CompareError> {
        let checkpoints = Checkpoints::new(&self.checkpoints, &self.pipeline)?;
        lost_in_checkpoints(&checkpoints, ledger).await
    }
}

fn tell_away(away: &CompareError, health: &Health) {
    let reason = format!(
        "the checkpoints can't be read ({}): whether the database has lost epochs is found out when they are back",
        chain(away)
    );
    warn!(reason, "starting without the checkpoints");
    health.degrade(Condition::Checkpoint, reason);
}

fn accepted_epochs(history: &LedgerHistory) -> f64 {
    history.accepted.iter().map(|range| range.epochs as f64).sum()
}
