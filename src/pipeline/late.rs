//! Events that need a row which ttl has dropped from memory: dead letters, because a result that is
//! computed from such a row without its partners would be wrong.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::PipelineError;
use super::committer::{FIRST_WAIT, LONGEST_WAIT};
use crate::changelog::{Changelog, DeadLetter, ErrorType, Message, Offset, Phase, Table};
use crate::decode::Decoded;
use crate::recovery::{Backoff, Recovery, chain};
use crate::sink::Sink;
use crate::state::{Missing, StateStores};
use crate::telemetry::{Condition, Health};

/// Finds late events by the landing tables.
pub(super) struct LateEvents {
    /// Reads; the committer has its own to write with.
    landing: Box<dyn Sink>,
    health: Health,
    shutdown: CancellationToken,
}

impl LateEvents {
    pub(super) fn new(landing: Box<dyn Sink>, health: Health, shutdown: CancellationToken) -> Self {
        Self { landing, health, shutdown }
    }

    /// Turns the late ones of the epoch's changes into dead letters.
    ///
    /// An event is late if a row that it changes, or that this row references, is not in memory
    /// although its newest landed change is not a delete. A message is late as a whole. `false`:
    /// shutdown came before the target answered.
    pub(super) async fn divert(
        &mut self,
        stores: &StateStores,
        messages: &[Message],
        decoded: &mut Decoded,
    ) -> Result<bool, PipelineError> {
        let mut reasons: HashMap<Offset, String> = HashMap::new();
        for changelog in &decoded.changes {
            for missing in stores.missing(changelog)? {
                let Some(are_live) = self.live_keys(&missing).await? else { return Ok(false) };
                let dropped = (0..are_live.len()).filter(|key| are_live[*key]);
                for (key, row) in
                    dropped.flat_map(|key| missing.needed_by[key].iter().map(move |row| (key, row)))
                {
                    let reason = || reason((changelog, *row), (&missing, key));
                    reasons.entry(changelog.offsets[*row]).or_insert_with(reason);
                }
            }
        }
        if !reasons.is_empty() {
            take_out(decoded, messages, reasons);
        }
        Ok(true)
    }

    /// Waits for the target as long as it takes; `None`: shutdown came first.
    async fn live_keys(&mut self, missing: &Missing) -> Result<Option<Vec<bool>>, PipelineError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let error = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(None),
                answer = self.landing.live_keys(&missing.table, &missing.keys) => match answer {
                    Ok(are_live) => {
                        if backoff.attempts() > 0 {
                            self.health.clear(Condition::Target);
                            info!("the target is back");
                        }
                        return Ok(Some(are_live));
                    }
                    Err(error) => error,
                },
            };
            match error.recovery() {
                Recovery::Retry => {}
                Recovery::DeadLetter | Recovery::Stop => return Err(error.into()),
            }
            let wait = backoff.next_wait();
            self.health.block(Condition::Target, chain(&error));
            warn!(
                table = missing.table.name,
                wait_ms = wait.as_millis() as u64,
                error = chain(&error),
                "the landing table can't be read, trying again"
            );
            tokio::select! {
                () = self.shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// What the dead letter says.
fn reason((changelog, row): (&Changelog, usize), (missing, key): (&Missing, usize)) -> String {
    let (table, dropped_from) = (&changelog.table, &missing.table);
    let changed = row_name(table, &changelog.batch, (&table.key, row));
    let key_columns: Vec<usize> = (0..missing.keys.num_columns()).collect();
    let dropped = row_name(dropped_from, &missing.keys, (&key_columns, key));
    let needs = match changed == dropped {
        true => format!("{changed} was"),
        false => format!("{changed} needs {dropped}, which was"),
    };
    let ttl = dropped_from.options.ttl.unwrap_or_default();
    format!(
        "{needs} dropped from memory after its ttl of {}, so this change is not applied and the \
         results keep their last value: raise ttl in sql/tables/{}.sql, then publish its bytes again",
        humantime::format_duration(ttl),
        dropped_from.name,
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
    mut reasons: HashMap<Offset, String>,
) {
    for changelog in std::mem::take(&mut decoded.changes) {
        let is_late: Vec<bool> =
            changelog.offsets.iter().map(|offset| reasons.contains_key(offset)).collect();
        let rest = if is_late.contains(&true) { changelog.without(&is_late) } else { changelog };
        decoded.changes.extend((!rest.is_empty()).then_some(rest));
    }
    let mut order = HashMap::new();
    for (at, message) in messages.iter().enumerate() {
        order.insert(message.offset, at);
        let Some(reason) = reasons.remove(&message.offset) else { continue };
        decoded.dead_letters.push(DeadLetter {
            offset: message.offset,
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            properties: message.properties.clone(),
            error_type: ErrorType::LateEvent,
            message: reason,
            phase: Phase::Fold,
        });
    }
    decoded.dead_letters.sort_by_key(|letter| order.get(&letter.offset).copied());
}
