//! Why an event becomes a dead letter instead of being applied, and how it is taken out of its epoch.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use arrow::util::display::array_value_to_string;

use crate::decode::Decoded;
use crate::model::{Changelog, DeadLetter, ErrorType, Message, Offset, Table};
use crate::pipeline::epoch::open_epoch::retain;
use crate::sink::RefusedRow;

/// Why an event is not applied but a dead letter.
#[derive(Debug, Clone)]
pub(crate) struct Diversion {
    pub(crate) error_type: ErrorType,
    pub(crate) message: String,
    /// As the source names it.
    pub(crate) table: Option<String>,
    pub(crate) column: Option<String>,
}

impl Diversion {
    pub(crate) fn late(message: String, table: &Table) -> Self {
        let table = Some(table.source.to_string());
        Self { error_type: ErrorType::LateEvent, message, table, column: None }
    }

    pub(crate) fn refused(row: RefusedRow) -> Self {
        let RefusedRow { message, column, source, .. } = row;
        Self { error_type: ErrorType::RowRefused, message, table: Some(source), column }
    }

    pub(crate) fn failed(reason: &str) -> Self {
        let message = format!(
            "{reason}: correct the query or the event, then replay it (tidemark dlq replay)"
        );
        Self { error_type: ErrorType::QueryFailed, message, table: None, column: None }
    }

    /// The event, whole, as a dead letter.
    pub(crate) fn letter(self, message: &Message) -> DeadLetter {
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

/// Takes out the events that are known to fail, as dead letters.
pub(crate) fn divert_failing(
    messages: &mut Arc<Vec<Message>>,
    failing: &HashMap<Offset, Diversion>,
) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    retain(messages, |message| match failing.get(&message.offset) {
        None => true,
        Some(diversion) => {
            letters.push(diversion.clone().letter(message));
            false
        }
    });
    letters
}

/// A row of a changelog, as in `the row order_id = 7 of table orders`.
#[derive(Clone, Copy)]
pub(crate) struct ChangedRow<'a> {
    pub(crate) changelog: &'a Changelog,
    pub(crate) row: usize,
}

impl Display for ChangedRow<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (table, batch) = (&self.changelog.table, &self.changelog.batch);
        let cell = |at: &usize| {
            let value = match array_value_to_string(batch.column(*at), self.row) {
                Ok(value) => value,
                // A type that has no text has no place in a key either.
                Err(error) => error.to_string(),
            };
            format!("{} = {value}", table.columns[*at].name)
        };
        let cells: Vec<String> = table.key.iter().map(cell).collect();
        write!(f, "the row {} of table {}", cells.join(", "), table.name)
    }
}

/// Moves the messages with a reason from the changes to the dead letters.
pub(crate) fn take_out(
    decoded: &mut Decoded,
    messages: &[Message],
    mut reasons: HashMap<Offset, Diversion>,
) {
    // Its document alone, or some of its events, were a dead letter so far.
    decoded.dead_letters.retain(|letter| !reasons.contains_key(&letter.offset));
    for mut changelog in std::mem::take(&mut decoded.changes) {
        changelog.truncations.retain(|truncation| !reasons.contains_key(&truncation.offset));
        let is_gone: Vec<bool> =
            changelog.offsets.iter().map(|offset| reasons.contains_key(offset)).collect();
        let rest = if is_gone.contains(&true) { changelog.without(&is_gone) } else { changelog };
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
