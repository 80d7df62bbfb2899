//! Dead letters that come back: they are marked in the dead-letter table, and the processor takes
//! them up between two epochs as an epoch of their own.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::model::{RefusedRequest, ReplayRequest};
use crate::pipeline::error::PipelineError;
use crate::pipeline::postgres_access::PostgresAccess;
use crate::resilience::chain;
use crate::sink::SinkError;
use crate::sink::postgres::LetterStore;

/// How often the table is looked at; the question costs an index look-up.
const INTERVAL: Duration = Duration::from_secs(1);
/// The most letters in one epoch.
const MOST: usize = 500;

/// Waits for requests and reads them.
pub(crate) struct ReplayWatcher {
    asked: mpsc::Receiver<()>,
    task: JoinHandle<()>,
    letters: Option<LetterStore>,
    /// Why the requests that are left are not looked at.
    given_up: Option<String>,
}

impl ReplayWatcher {
    pub(crate) fn watch(access: &PostgresAccess) -> Self {
        let (sender, asked) = mpsc::channel(1);
        let task = tokio::spawn(watch(access.letters(), sender));
        Self { asked, task, letters: Some(access.letters()), given_up: None }
    }

    /// Returns when a replay was asked for. Cancel-safe.
    pub(crate) async fn asked(&mut self) {
        if self.asked.recv().await.is_none() {
            // The watcher runs until it is dropped.
            std::future::pending::<()>().await;
        }
    }

    /// The next letters, in broker order; none while the table can't be read.
    pub(crate) async fn take(&mut self, limit: Option<usize>) -> Vec<ReplayRequest> {
        let Some(letters) = &mut self.letters else { return Vec::new() };
        let limit = limit.unwrap_or(MOST).min(MOST);
        match letters.requests(limit as i64).await {
            Ok(requests) => {
                if requests.is_empty() {
                    self.given_up = None;
                }
                requests
            }
            Err(error) => {
                unreadable(&error);
                Vec::new()
            }
        }
    }

    /// The next refused requests, the oldest first; none while the table can't be read.
    pub(crate) async fn take_refused(&mut self) -> Vec<RefusedRequest> {
        let Some(letters) = &mut self.letters else { return Vec::new() };
        let requests = letters.rest_requests(MOST as i64).await;
        requests.unwrap_or_else(|error| {
            unreadable(&error);
            Vec::new()
        })
    }

    /// Whether refused rows of results are asked for again.
    pub(crate) async fn has_rows(&mut self) -> bool {
        let Some(letters) = &mut self.letters else { return false };
        match letters.result_requests(1).await {
            Ok(rows) => !rows.is_empty(),
            Err(error) => {
                unreadable(&error);
                false
            }
        }
    }

    /// So many letters in a row have failed that the ones that are left would as well.
    pub(crate) fn give_up(&mut self, error: &PipelineError) {
        let reason = format!(
            "not tried, because too many in a row before it made a query fail, the last one with: {}; correct \
             the query, then replay again",
            chain(error)
        );
        warn!(%error, "a replay is given up: too many letters in a row make a query fail");
        self.given_up = Some(reason);
    }

    pub(crate) fn given_up(&self) -> Option<&str> {
        self.given_up.as_deref()
    }
}

impl Drop for ReplayWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn unreadable(error: &SinkError) {
    warn!(error = chain(error), "dead letters can't be read for a replay; later again");
}

async fn watch(mut letters: LetterStore, sender: mpsc::Sender<()>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // While the target is away, others say so.
        if letters.has_requests().await.is_ok_and(|has| has) && sender.send(()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
impl ReplayWatcher {
    /// For sessions without a dead-letter table.
    pub(crate) fn never() -> Self {
        let (_, asked) = mpsc::channel(1);
        let task = tokio::spawn(std::future::ready(()));
        Self { asked, task, letters: None, given_up: None }
    }
}
