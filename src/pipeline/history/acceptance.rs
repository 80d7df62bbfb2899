//! An epoch that says that lost ones are given up.

use tracing::warn;

use crate::model::{AcceptedLoss, EpochCommit};
use crate::sink::{Sink, SinkError};

/// Commits an epoch above all that were lost, which notes the loss in the database: the numbers of lost epochs are never
/// used again, and everything goes on from the ledger.
///
/// # Errors
/// If it can't be committed.
pub(crate) async fn accept(
    sink: &mut dyn Sink,
    queue: &str,
    loss: AcceptedLoss,
) -> Result<(), SinkError> {
    let position = sink.resume().await?;
    let lost = &loss.lost;
    let highest = position.epoch.map_or(lost.newest(), |epoch| epoch.max(lost.newest()));
    warn!(
        first = lost.numbers.map_or(0, |(first, _)| first.0),
        last = lost.newest().0,
        epochs = lost.epochs,
        messages = lost.messages,
        "lost epochs are accepted: processing goes on from the ledger, and tidemark_lost_epochs names what is missing"
    );
    let commit = EpochCommit {
        accepted_loss: Some(loss),
        generations: position.generations,
        watermark: position.watermark,
        ..EpochCommit::empty(highest.next(), queue)
    };
    sink.commit(&commit).await
}
