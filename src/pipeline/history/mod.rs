//! Whether the database still has what was committed.
//!
//! After a failover to a standby that was behind, or from a restored backup, the ledger lacks epochs whose messages were
//! acknowledged. Two others remember them: the checkpoints, up to their interval, and this process, as long as it
//! runs. A start compares the ledger with both, and goes on only if it has everything, or if the operator has accepted
//! the loss.

mod acceptance;
mod comparison;
mod lost_history;
mod recent_epochs;

pub(super) use acceptance::accept;
pub(super) use comparison::{CompareError, lost_in_checkpoints};
pub use lost_history::LostHistory;
pub(super) use recent_epochs::RecentEpochs;

use comparison::CheckpointLoss;

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tracing::warn;

use crate::checkpoint::{CheckpointConfig, Checkpoints};
use crate::model::{AcceptedLoss, Epoch, LostEpochs, Table};
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
            recent: RecentEpochs::default(),
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
        for recorded in self.recent.above(known_to) {
            if history.lacks(&recorded) {
                lost.add(&recorded);
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
        Err(HistoryError::Lost(Box::new(LostHistory {
            pipeline: self.pipeline.clone(),
            newest: history.newest,
            lost,
            traces,
            refused: self.accepts,
        })))
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
