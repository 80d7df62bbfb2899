//! The writer thread: takes what was appended to disk, then lets the core act on it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::SpoolError;
use super::core::Hub;

/// How often an idle writer looks whether it should end.
const IDLE_CHECK: Duration = Duration::from_millis(200);

/// Runs until `stop` and everything appended before is on disk, or until the disk fails: then the
/// reason is left in the core and `failed` is cancelled.
pub(crate) fn run(hub: &Arc<Hub>, stop: &CancellationToken, failed: &CancellationToken) {
    while let Some(outcome) = round(hub, stop) {
        if let Err(failure) = outcome {
            error!(error = %failure, "spool failed; broker stops, nothing unwritten was promised");
            hub.lock().failure = Some(failure);
            failed.cancel();
            return;
        }
        hub.space.notify_waiters();
    }
}

/// One round of group commit; `None` when it is time to end.
fn round(hub: &Arc<Hub>, stop: &CancellationToken) -> Option<Result<(), SpoolError>> {
    let mut core = hub.lock();
    while !core.has_work() {
        if stop.is_cancelled() {
            return None;
        }
        let waited = hub.writer.wait_timeout(core, IDLE_CHECK);
        core = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    let round = core.take_round();
    drop(core);
    if let Err(failure) = round.batch.write() {
        return Some(Err(failure));
    }
    Some(hub.lock().commit(round))
}
