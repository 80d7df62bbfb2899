//! The checkpoints of a pipeline beside its ledger.

use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::model::{Epoch, LostEpochs};
use crate::sink::SinkError;
use crate::sink::postgres::LedgerReader;

/// Why the two were not compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("no answer in time")]
    TimedOut,
}

/// What the checkpoints have and the ledger has not.
#[derive(Debug)]
pub(crate) struct CheckpointLoss {
    pub(crate) lost: LostEpochs,
    /// The newest epoch in the checkpoints.
    pub(crate) newest: Option<Epoch>,
}

/// Looks for epochs in the checkpoints that the ledger lacks.
///
/// # Errors
/// If one of them can't be read.
pub(crate) async fn lost_in_checkpoints(
    checkpoints: &Checkpoints,
    ledger: &mut LedgerReader,
) -> Result<CheckpointLoss, CompareError> {
    // The checkpoints first: what is in them by now must be in the ledger.
    let mut found =
        CheckpointLoss { lost: LostEpochs::default(), newest: checkpoints.newest().await? };
    let Some(newest) = found.newest else { return Ok(found) };
    let history = ledger.history().await?;
    let first = history.doubtful_from();
    if first <= newest {
        let lost = &mut found.lost;
        let take = |recorded: crate::model::RecordedEpoch| {
            if recorded.epoch <= newest && history.lacks(&recorded) {
                lost.add(&recorded);
            }
        };
        checkpoints.read_from(first, take).await?;
    }
    Ok(found)
}
