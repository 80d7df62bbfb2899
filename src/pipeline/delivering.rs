//! The delivery of the outbox as a task beside the committer.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::PipelineError;
use crate::config::Config;
use crate::model::{Channel, EpochCommit, ResultTable};
use crate::sink::SinkError;
use crate::sink::postgres::Outbox;
use crate::sink::rest::{Backlog, Delivery};
use crate::telemetry::Health;

/// The running task, if there is an API to deliver to.
pub(super) struct Delivering {
    task: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Delivering {
    /// Also what the committer has to know about the outbox.
    pub(super) fn spawn(
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
    pub(super) async fn finish(self) {
        self.stop.cancel();
        let Some(task) = self.task else { return };
        if let Err(error) = task.await {
            error!(%error, "the task that delivers the outbox panicked");
        }
    }
}

/// Results go to an API only if there is one.
pub(super) fn check_results(
    config: &Config,
    results: &[Arc<ResultTable>],
) -> Result<(), SinkError> {
    if config.sink.rest.is_some() {
        return Ok(());
    }
    let is_rest = |result: &&Arc<ResultTable>| result.channel != Channel::Table;
    let problem = |result: &Arc<ResultTable>| {
        format!(
            "{}: writes to rest {}, and there is no API: set sink.rest.base_url",
            result.name, result.target
        )
    };
    let problems: Vec<String> = results.iter().filter(is_rest).map(problem).collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(SinkError::Config { problems }),
    }
}

/// The most rows that an epoch adds to the outbox.
pub(super) fn rows_for_outbox(commit: &EpochCommit) -> usize {
    commit.resent.len() + rows_posted(commit)
}

fn rows_posted(commit: &EpochCommit) -> usize {
    let posted = commit.results.iter().filter(|changes| changes.table.channel != Channel::Table);
    let posted = posted.filter(|changes| !changes.is_new_definition);
    posted.map(|changes| changes.upserts.num_rows() + changes.deletes.num_rows()).sum()
}
