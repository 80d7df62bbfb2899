//! A task that runs beside the loop until it is stopped and waited for.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// The running task.
pub(crate) struct BackgroundTask {
    /// What it does, for the log.
    work: &'static str,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl BackgroundTask {
    /// The task ends soon after its token is cancelled.
    pub(super) fn spawn<F>(work: &'static str, task: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        Self { work, task: tokio::spawn(task(stop.clone())), stop }
    }

    /// Stops it and waits for what is under way.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            error!(%error, work = self.work, "a task beside the loop panicked");
        }
    }
}
