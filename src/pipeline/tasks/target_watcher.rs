//! Watches the targets of results that wait for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::info;

use crate::model::{Channel, ResultTable};
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::schema::target_compatibility::WaitsForTarget;
use crate::sink::SinkError;
use crate::sink::postgres::{SchemaAdmin, Unfit};

/// How often the catalog is asked whether a target fits again; it costs a few look-ups per result that waits.
const INTERVAL: Duration = Duration::from_secs(3);

/// The running task.
pub(crate) struct TargetWatcher {
    fits: mpsc::Receiver<()>,
    /// `None` if none waits.
    task: Option<JoinHandle<()>>,
}

impl TargetWatcher {
    /// # Errors
    /// If the sink's configuration is wrong.
    pub(crate) fn watch(
        access: &PostgresAccess,
        mut waiting: Vec<WaitsForTarget>,
    ) -> Result<Self, SinkError> {
        let (sender, fits) = mpsc::channel(1);
        // A path of an API has none before the configuration is another one.
        waiting.retain(|waits| waits.result.channel == Channel::Table);
        if waiting.is_empty() {
            return Ok(Self { fits, task: None });
        }
        // A connection for each look, because nothing may come of it for weeks.
        let (access, creates) = (access.clone(), access.creates_tables());
        let connect = move || access.schema_admin();
        connect()?;
        let task = tokio::spawn(async move {
            wait(connect, &waiting, creates).await;
            // A session that has ended does not listen.
            let _is_heard = sender.send(()).await.is_ok();
        });
        Ok(Self { fits, task: Some(task) })
    }

    /// A target fits again, so that its result may run; never if none waits. Cancel-safe.
    pub(crate) async fn fits(&mut self) {
        if self.fits.recv().await.is_none() {
            // Nobody watches.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for TargetWatcher {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn wait(
    connect: impl Fn() -> Result<SchemaAdmin, SinkError>,
    waiting: &[WaitsForTarget],
    creates: bool,
) {
    let results: Vec<Arc<ResultTable>> =
        waiting.iter().map(|waits| Arc::clone(&waits.result)).collect();
    loop {
        tokio::time::sleep(INTERVAL).await;
        // While the target is away, others say so.
        let Ok(mut admin) = connect() else { continue };
        let Ok(unfit) = admin.unfit(&results).await else { continue };
        let mended = waiting.iter().find(|waits| match unfit.get(&waits.result.name) {
            None => true,
            // It was dropped, so it is created again.
            Some(Unfit { is_missing, .. }) => *is_missing && waits.has_table && creates,
        });
        if let Some(WaitsForTarget { result, .. }) = mended {
            let (result, target) = (&result.name, &result.target);
            info!(
                result,
                target, "the target of a result that waits has been altered: it is tried again"
            );
            return;
        }
    }
}

#[cfg(test)]
impl TargetWatcher {
    /// For sessions without a database.
    pub(crate) fn never() -> Self {
        let (_, fits) = mpsc::channel(1);
        Self { fits, task: None }
    }
}
