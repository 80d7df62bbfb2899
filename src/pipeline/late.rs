//! Rows that ttl has dropped and that an epoch needs come back from the landing tables; events for
//! which that can't be are dead letters, because a result that is computed from a row without its
//! partners would be wrong.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use metrics::counter;
use tokio_util::sync::CancellationToken;

use super::PipelineError;
use super::patience::Patience;
use super::read_back::ReadBack;
use crate::decode::Decoded;
use crate::model::{Changelog, DeadLetter, ErrorType, Message, Offset, Table, TableDelta};
use crate::resilience::{CircuitBreaker, Recovery};
use crate::sink::{RefusedRow, Sink, SinkError};
use crate::state::{KeysOf, StateStores};
use crate::telemetry::{Health, names};

/// Asks the landing tables what an epoch needs to know before it is folded.
pub(super) struct LandedRows {
    /// Reads; the committer has its own to write with.
    landing: Box<dyn Sink>,
    patience: Patience,
    shutdown: CancellationToken,
}

impl LandedRows {
    pub(super) fn new(
        landing: Box<dyn Sink>,
        (health, breaker): (Health, CircuitBreaker),
        shutdown: CancellationToken,
    ) -> Self {
        Self { landing, patience: Patience::new(breaker, health, "read"), shutdown }
    }

    /// Makes dead letters of the events whose rows the landing tables would refuse. `false`: shutdown came
    /// before the target answered.
    pub(super) async fn divert_refused(
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
        self.patience.succeeded();
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
        let wait = self.patience.failed(doing, &error);
        tokio::select! {
            () = self.shutdown.cancelled() => Ok(false),
            () = tokio::time::sleep(wait) => {
                self.patience.probing();
                Ok(true)
            }
        }
    }

    /// Puts the rows that the epoch needs back into the stores; how these differ after it. Events that
    /// need what can't come back become dead letters. A message is late as a whole. `None`: shutdown
    /// came before the target answered.
    pub(super) async fn put_back(
        &mut self,
        stores: &mut StateStores,
        messages: &[Message],
        decoded: &mut Decoded,
    ) -> Result<Option<Vec<TableDelta>>, PipelineError> {
        let mut needed = ReadBack::new(stores, &decoded.changes)?;
        if !needed.find(self).await? {
            return Ok(None);
        }
        let (late, rows) = needed.finish()?;
        let mut deltas = Vec::new();
        for changelog in rows {
            let delta = stores.put_back(changelog)?;
            let count = delta.inserted.num_rows() as u64;
            counter!(names::READ_BACK_ROWS, "table" => delta.table.clone()).increment(count);
            deltas.push(delta);
        }
        if !deltas.is_empty() {
            let Some(history) = self.history(stores.doubtful(&deltas)?).await? else {
                return Ok(None);
            };
            deltas.extend(stores.look_up_landed(&deltas, &history)?);
        }
        if !late.is_empty() {
            let late = late.into_iter().map(|(offset, reason)| (offset, Diversion::late(reason)));
            take_out(decoded, messages, late.collect());
        }
        Ok(Some(deltas))
    }

    /// As [`Sink::newest_rows`]. Waits for the target as long as it takes; `None`: shutdown came first.
    pub(super) async fn newest_rows(
        &mut self,
        table: &Arc<Table>,
        asked: (&[usize], &RecordBatch),
        limit: usize,
    ) -> Result<Option<Option<Vec<Changelog>>>, PipelineError> {
        self.ask(table, async |landing| landing.newest_rows(table, asked, limit).await).await
    }

    /// As [`Sink::history`], of several tables. Waits and gives up as [`Self::newest_rows`].
    pub(super) async fn history(
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
                    self.patience.succeeded();
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

/// Why an event is not applied but a dead letter.
#[derive(Debug, Clone)]
pub(super) struct Diversion {
    pub(super) error_type: ErrorType,
    pub(super) message: String,
    /// As the source names it.
    pub(super) table: Option<String>,
    pub(super) column: Option<String>,
}

impl Diversion {
    pub(super) fn late(message: String) -> Self {
        Self { error_type: ErrorType::LateEvent, message, table: None, column: None }
    }

    pub(super) fn refused(row: RefusedRow) -> Self {
        let RefusedRow { message, column, .. } = row;
        Self { error_type: ErrorType::RowRefused, message, table: None, column }
    }

    pub(super) fn failed(reason: &str) -> Self {
        let message = format!(
            "{reason}: correct the query or the event, then replay it (tidemark dlq replay)"
        );
        Self { error_type: ErrorType::QueryFailed, message, table: None, column: None }
    }

    /// The event, whole, as a dead letter.
    pub(super) fn letter(self, message: &Message) -> DeadLetter {
        DeadLetter {
            offset: message.offset,
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            properties: message.properties.clone(),
            error_type: self.error_type,
            message: self.message,
            table: self.table,
            column: self.column,
        }
    }
}

/// Why a change is late that needs a row in a window that has lost rows.
pub(super) fn dropped_reason(
    (changelog, row): (&Changelog, usize),
    (found, at): (&Changelog, usize),
) -> String {
    let (table, dropped_from) = (&changelog.table, &found.table);
    let changed = row_name(table, &changelog.batch, (&table.key, row));
    let dropped = row_name(dropped_from, &found.batch, (&dropped_from.key, at));
    let needs = match changed == dropped {
        true => format!("{changed} was"),
        false => format!("{changed} needs {dropped}, which was"),
    };
    let ttl = humantime::format_duration(dropped_from.options.ttl.unwrap_or_default());
    format!(
        "{needs} dropped from memory after its ttl of {ttl} with its windows, so this change is not \
         applied and the results keep their last value: raise ttl in sql/tables/{}.sql, then replay \
         it (tidemark dlq replay)",
        dropped_from.name,
    )
}

/// Why a change is late whose epoch needs too much.
pub(super) fn too_many_reason(
    (changelog, row): (&Changelog, usize),
    needed: &Table,
    most: usize,
) -> String {
    let table = &changelog.table;
    format!(
        "{} needs rows of table {} that ttl dropped from memory, and with its neighbours more than \
         {most} rows would have to be read back at once, so this change is not applied: raise ttl in \
         sql/tables/{}.sql or lower batch.max_messages, then replay it (tidemark dlq replay)",
        row_name(table, &changelog.batch, (&table.key, row)),
        needed.name,
        needed.name,
    )
}

/// As in `the row order_id = 7 of table orders`.
pub(super) fn row_name(
    table: &Table,
    batch: &RecordBatch,
    (columns, row): (&[usize], usize),
) -> String {
    let value = |column: &usize| match array_value_to_string(batch.column(*column), row) {
        Ok(value) => value,
        // A type that has no text has no place in a key either.
        Err(error) => error.to_string(),
    };
    let names = table.key.iter().map(|at| &table.columns[*at].name);
    let cells: Vec<String> =
        names.zip(columns).map(|(name, at)| format!("{name} = {}", value(at))).collect();
    format!("the row {} of table {}", cells.join(", "), table.name)
}

/// Moves the messages with a reason from the changes to the dead letters.
pub(super) fn take_out(
    decoded: &mut Decoded,
    messages: &[Message],
    mut reasons: HashMap<Offset, Diversion>,
) {
    // Its document alone was a dead letter so far.
    decoded.dead_letters.retain(|letter| !reasons.contains_key(&letter.offset));
    for changelog in std::mem::take(&mut decoded.changes) {
        let mut is_late = Vec::with_capacity(changelog.len());
        for offset in &changelog.offsets {
            let reason = reasons.get_mut(offset);
            is_late.push(reason.is_some());
            if let Some(reason) = reason {
                reason.table = Some(changelog.table.source.to_string());
            }
        }
        let rest = if is_late.contains(&true) { changelog.without(&is_late) } else { changelog };
        decoded.changes.extend((!rest.is_empty()).then_some(rest));
    }
    let mut order = HashMap::new();
    for (at, message) in messages.iter().enumerate() {
        order.insert(message.offset, at);
        let Some(reason) = reasons.remove(&message.offset) else { continue };
        decoded.dead_letters.push(reason.letter(message));
    }
    decoded.dead_letters.sort_by_key(|letter| order.get(&letter.offset).copied());
}
