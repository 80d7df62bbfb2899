//! Rows that ttl has dropped and that an epoch needs come back from the landing tables; events for
//! which that can't be are dead letters, because a result that is computed from a row without its
//! partners would be wrong.

use std::sync::Arc;

use metrics::counter;
use tokio_util::sync::CancellationToken;

use crate::decode::Decoded;
use crate::model::{Changelog, Message, Table};
use crate::pipeline::epoch::diversion::{Diversion, take_out};
use crate::pipeline::error::PipelineError;
use crate::pipeline::target_retry::TargetRetry;
use crate::resilience::{CircuitBreaker, Recovery};
use crate::sink::{KeyQuery, RefusedRow, Sink, SinkError};
use crate::state::KeysOf;
use crate::telemetry::{Health, names};

/// Asks the landing tables what an epoch needs to know before it is folded.
pub(in crate::pipeline) struct LandingReader {
    /// Reads; the committer has its own to write with.
    landing: Box<dyn Sink>,
    retry: TargetRetry,
    shutdown: CancellationToken,
}

impl LandingReader {
    pub(in crate::pipeline) fn new(
        landing: Box<dyn Sink>,
        (health, breaker): (Health, CircuitBreaker),
        shutdown: CancellationToken,
    ) -> Self {
        Self { landing, retry: TargetRetry::new(breaker, health, "read"), shutdown }
    }

    /// Makes dead letters of the events whose rows the landing tables would refuse. `false`: shutdown came
    /// before the target answered.
    pub(in crate::pipeline) async fn divert_refused(
        &mut self,
        messages: &[Message],
        decoded: &mut Decoded,
    ) -> Result<bool, PipelineError> {
        let refused = loop {
            let answer = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(false),
                answer = self.landing.refused(&decoded.changes) => answer,
            };
            match answer {
                Ok(rows) => break rows,
                Err(error) => {
                    if !self.wait("trying the rows of an epoch", error).await? {
                        return Ok(false);
                    }
                }
            }
        };
        self.retry.succeeded();
        if !refused.is_empty() {
            let reason = |row: RefusedRow| {
                counter!(names::REFUSED_ROWS, "table" => row.table.clone()).increment(1);
                (row.offset, Diversion::refused(row))
            };
            take_out(decoded, messages, refused.into_iter().map(reason).collect());
        }
        Ok(true)
    }

    /// Waits before the next attempt; `false`: shutdown came first.
    ///
    /// # Errors
    /// The error itself, if no attempt can help.
    async fn wait(&mut self, doing: &str, error: SinkError) -> Result<bool, PipelineError> {
        match error.recovery() {
            Recovery::Retry | Recovery::Hold => {}
            Recovery::DeadLetter | Recovery::Stop => return Err(error.into()),
        }
        let wait = self.retry.failed(doing, &error);
        tokio::select! {
            () = self.shutdown.cancelled() => Ok(false),
            () = tokio::time::sleep(wait) => {
                self.retry.probing();
                Ok(true)
            }
        }
    }

    /// As [`Sink::newest_rows`]. Waits for the target as long as it takes; `None`: shutdown came first.
    pub(in crate::pipeline) async fn newest_rows(
        &mut self,
        table: &Arc<Table>,
        query: KeyQuery<'_>,
        limit: usize,
    ) -> Result<Option<Option<Vec<Changelog>>>, PipelineError> {
        self.ask(table, async |landing| landing.newest_rows(table, query, limit).await).await
    }

    /// As [`Sink::history`], of several tables. Waits and gives up as [`Self::newest_rows`].
    pub(in crate::pipeline) async fn history(
        &mut self,
        asked: Vec<KeysOf>,
    ) -> Result<Option<Vec<Changelog>>, PipelineError> {
        let mut history = Vec::new();
        for (table, keys) in &asked {
            let rows = self.ask(table, async |landing| landing.history(table, keys).await).await?;
            let Some(rows) = rows else { return Ok(None) };
            history.extend(rows);
        }
        Ok(Some(history))
    }

    async fn ask<T>(
        &mut self,
        table: &Table,
        mut question: impl AsyncFnMut(&mut dyn Sink) -> Result<T, SinkError>,
    ) -> Result<Option<T>, PipelineError> {
        loop {
            let answer = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(None),
                answer = question(&mut *self.landing) => answer,
            };
            match answer {
                Ok(rows) => {
                    self.retry.succeeded();
                    return Ok(Some(rows));
                }
                Err(error) => {
                    let doing = format!("looking for landed rows of {}", table.name);
                    if !self.wait(&doing, error).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }
}
