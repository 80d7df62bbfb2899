//! Asks the landing tables what an epoch has to know, for as long as the target takes to answer.

use std::collections::HashSet;

use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::decode::{Decoded, event_count};
use crate::model::{Changelog, EventId, Knowledge, KnownOffsets, Message, Offset, Table};
use crate::pipeline::epoch::diversion::{Diversion, take_out};
use crate::pipeline::error::Stopped;
use crate::pipeline::target_retry::TargetRetry;
use crate::resilience::Recovery;
use crate::sink::{PreflightLevel, RefusedRow, Sink, SinkError};
use crate::state::KeysOf;
use crate::telemetry::names;

/// Asks the landing tables what an epoch needs to know before it is folded.
pub(crate) struct LandingReader {
    /// Reads; the committer has its own to write with.
    landing: Box<dyn Sink>,
    retry: TargetRetry,
    shutdown: CancellationToken,
}

impl LandingReader {
    pub(crate) fn new(
        landing: Box<dyn Sink>,
        retry: TargetRetry,
        shutdown: CancellationToken,
    ) -> Self {
        Self { landing, retry, shutdown }
    }

    /// Looks at the rows of these tables before they are applied.
    pub(crate) fn raise_preflight(&mut self, levels: &[(String, PreflightLevel)]) {
        self.landing.raise_preflight(levels);
    }

    /// Makes dead letters of the events whose rows the landing tables would refuse.
    pub(crate) async fn divert_refused(
        &mut self,
        messages: &[Message],
        decoded: &mut Decoded,
    ) -> Result<(), Stopped> {
        let changes = &decoded.changes;
        let doing = || "trying the rows of an epoch".to_owned();
        let refused = self.ask(doing, async |landing| landing.refused(changes).await).await?;
        if !refused.is_empty() {
            let reason = |row: RefusedRow| {
                counter!(names::REFUSED_ROWS, "table" => row.table.clone()).increment(1);
                (row.offset, Diversion::refused(row))
            };
            take_out(decoded, messages, refused.into_iter().map(reason).collect());
        }
        Ok(())
    }

    /// As [`Sink::history`], of several tables.
    pub(crate) async fn history(&mut self, asked: Vec<KeysOf>) -> Result<Vec<Changelog>, Stopped> {
        let mut history = Vec::new();
        for (table, keys) in &asked {
            let question = async |landing: &mut dyn Sink| landing.history(table, keys).await;
            history.extend(self.ask(|| looking(table), question).await?);
        }
        Ok(history)
    }

    /// Messages that are older than what is known exactly, and are committed.
    pub(crate) async fn committed_before(
        &mut self,
        known: &KnownOffsets,
        messages: &[Message],
    ) -> Result<HashSet<Offset>, Stopped> {
        let is_forgotten = |message: &&Message| known.of(message.offset) == Knowledge::Forgotten;
        let forgotten: Vec<&Message> = messages.iter().filter(is_forgotten).collect();
        if forgotten.is_empty() {
            return Ok(HashSet::new());
        }
        let ids = |message: &&Message| EventId::all(message.offset, event_count(message));
        let events: Vec<EventId> = forgotten.iter().flat_map(ids).collect();
        let committed = self.committed(&events).await?;
        let (asked, known) = (forgotten.len(), committed.len());
        info!(asked, known, "old messages have come: the landing tables say which are committed");
        Ok(committed)
    }

    /// As [`Sink::committed`].
    async fn committed(&mut self, events: &[EventId]) -> Result<HashSet<Offset>, Stopped> {
        let question = async |landing: &mut dyn Sink| landing.committed(events).await;
        self.ask(|| "looking for events that are committed".to_owned(), question).await
    }

    async fn ask<T>(
        &mut self,
        doing: impl Fn() -> String,
        mut question: impl AsyncFnMut(&mut dyn Sink) -> Result<T, SinkError>,
    ) -> Result<T, Stopped> {
        loop {
            let answer = tokio::select! {
                () = self.shutdown.cancelled() => return Err(Stopped::Shutdown),
                answer = question(&mut *self.landing) => answer,
            };
            let error = match answer {
                Ok(rows) => {
                    self.retry.succeeded();
                    return Ok(rows);
                }
                Err(error) => error,
            };
            match error.recovery() {
                Recovery::Retry | Recovery::Hold => {}
                Recovery::DeadLetter | Recovery::Stop => return Err(error.into()),
            }
            let wait = self.retry.failed(&doing(), &error);
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(Stopped::Shutdown),
                () = tokio::time::sleep(wait) => self.retry.probing(),
            }
        }
    }
}

fn looking(table: &Table) -> String {
    format!("looking for landed rows of {}", table.name)
}
