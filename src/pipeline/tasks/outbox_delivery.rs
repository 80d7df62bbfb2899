//! The delivery of the outbox as a task beside the committer.

use std::sync::Arc;

use crate::model::{Channel, EpochCommit, ResultChanges, ResultTable};
use crate::pipeline::error::PipelineError;
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::tasks::background::BackgroundTask;
use crate::sink::rest::{Backlog, Delivery, RestConfig};
use crate::telemetry::Health;

/// Also what the committer has to know about the outbox; `None` without an API.
///
/// # Errors
/// If the configuration of the API is wrong.
pub(crate) fn spawn(
    access: &PostgresAccess,
    rest: Option<&RestConfig>,
    results: &[Arc<ResultTable>],
    health: &Health,
) -> Result<Option<(BackgroundTask, Backlog)>, PipelineError> {
    let Some(rest) = rest else { return Ok(None) };
    let backlog = Backlog::new(rest.outbox_limit.get());
    let versioned = results.iter().filter(|result| result.posts_versions());
    let versioned = versioned.map(|result| result.name.clone()).collect();
    let outbox = access.outbox().with_versioned(versioned);
    let delivery = Delivery::new(outbox, rest, backlog.clone(), health.clone())?;
    let task = BackgroundTask::spawn("delivery of the outbox", |stop| delivery.run(stop));
    Ok(Some((task, backlog)))
}

/// The most rows that an epoch adds to the outbox.
pub(crate) fn rows_for_outbox(commit: &EpochCommit) -> usize {
    commit.resent.len() + rows_posted(commit)
}

fn rows_posted(commit: &EpochCommit) -> usize {
    let is_posted = |changes: &&ResultChanges| {
        changes.table.channel != Channel::Table && !changes.is_new_definition
    };
    let posted = commit.results.iter().filter(is_posted);
    posted.map(|changes| changes.upserts.num_rows() + changes.deletes.num_rows()).sum()
}
