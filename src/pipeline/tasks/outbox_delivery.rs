//! The delivery of the outbox as a task beside the committer.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::Config;
use crate::model::{Channel, EpochCommit, ResultTable};
use crate::pipeline::error::PipelineError;
use crate::sink::postgres::Outbox;
use crate::sink::rest::{Backlog, Delivery};
use crate::telemetry::Health;

/// The running task, if there is an API to deliver to.
pub(in crate::pipeline) struct OutboxDelivery {
    task: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl OutboxDelivery {
    /// Also what the committer has to know about the outbox.
    pub(in crate::pipeline) fn spawn(
        config: &Config,
        results: &[Arc<ResultTable>],
        health: &Health,
    ) -> Result<(Self, Option<Backlog>), PipelineError> {
        let stop = CancellationToken::new();
        let Some(rest) = &config.sink.rest else { return Ok((Self { task: None, stop }, None)) };
        let backlog = Backlog::new(rest.outbox_limit.get());
        let outbox = Outbox::new(config.sink.postgres.clone(), config.pipeline.as_str());
        let versioned = results.iter().filter(|result| result.posts_versions());
        let outbox = outbox.with_versioned(versioned.map(|result| result.name.clone()).collect());
        let delivery = Delivery::new(outbox, rest, backlog.clone(), health.clone())?;
        let task = Some(tokio::spawn(delivery.run(stop.clone())));
        Ok((Self { task, stop }, Some(backlog)))
    }

    /// Waits for the requests that are under way.
    pub(in crate::pipeline) async fn finish(self) {
        self.stop.cancel();
        let Some(task) = self.task else { return };
        if let Err(error) = task.await {
            error!(%error, "the task that delivers the outbox panicked");
        }
    }
}

/// The most rows that an epoch adds to the outbox.
pub(in crate::pipeline) fn rows_for_outbox(commit: &EpochCommit) -> usize {
    commit.resent.len() + rows_posted(commit)
}

fn rows_posted(commit: &EpochCommit) -> usize {
    let posted = commit.results.iter().filter(|changes| changes.table.channel != Channel::Table);
    let posted = posted.filter(|changes| !changes.is_new_definition);
    posted.map(|changes| changes.upserts.num_rows() + changes.deletes.num_rows()).sum()
}
