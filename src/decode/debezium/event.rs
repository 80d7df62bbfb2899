//! What a message is: a change, or something that tells about the source or the connector.

use std::borrow::Cow;

use super::row_form::{RowForm, RowReading};
use crate::decode::refusal::EventRefusal;
use crate::model::{Operation, Scn};

/// A payload, understood as far as its outermost fields.
#[derive(Debug, PartialEq)]
pub(in crate::decode) enum DebeziumEvent<'a> {
    Change(ChangeEvent<'a>),
    /// No value at all: the key was deleted before, by an event of its own.
    Tombstone,
    Heartbeat,
    /// BEGIN or END of a transaction.
    Transaction,
    /// DDL of the source.
    SchemaChange(SchemaMessage<'a>),
    /// How a snapshot gets on.
    Notification,
    /// What the connector was told to do.
    Signal,
}

/// What the source says about its tables; JSON texts.
#[derive(Debug, PartialEq)]
pub(in crate::decode) struct SchemaMessage<'a> {
    pub(in crate::decode) ddl: Option<Cow<'a, str>>,
    pub(in crate::decode) table_changes: Option<&'a str>,
    /// Of tables that the DDL names without one; may be empty.
    pub(in crate::decode) schema: Cow<'a, str>,
}

/// The parts of a change event. `before` and `after` are JSON texts, `None` for null.
#[derive(Debug, PartialEq)]
pub(in crate::decode) struct ChangeEvent<'a> {
    /// Empty if only the table is known.
    pub(in crate::decode) schema: Cow<'a, str>,
    pub(in crate::decode) table: Cow<'a, str>,
    pub(in crate::decode) action: ChangeAction,
    pub(in crate::decode) before: Option<&'a str>,
    pub(in crate::decode) after: Option<&'a str>,
    /// Microseconds since 1970: when the database made the change, else when Debezium saw it.
    pub(in crate::decode) source_ts: Option<i64>,
    /// When the change was committed or the row was read, by the database's own count.
    pub(in crate::decode) scn: Option<Scn>,
    pub(in crate::decode) schema_section: Option<&'a str>,
    pub(in crate::decode) form: RowForm,
    /// The names of its key columns, a JSON text.
    pub(in crate::decode) primary_keys: Option<&'a str>,
}

impl ChangeEvent<'_> {
    pub(in crate::decode) fn reading(&self) -> RowReading {
        let is_of_golden_gate =
            matches!(self.form, RowForm::GoldenGateImage | RowForm::GoldenGateRow);
        let is_update = self.action == ChangeAction::Row(Operation::Update);
        RowReading {
            form: self.form,
            is_partial: is_of_golden_gate && is_update,
            is_remembered: self.schema_section.is_none(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::decode) enum ChangeAction {
    Row(Operation),
    /// The source emptied the table.
    Truncate,
    /// A generic message.
    Message,
}

impl ChangeAction {
    /// As the envelope's `op` has it.
    pub(super) fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "t" => Some(Self::Truncate),
            "m" => Some(Self::Message),
            _ => Operation::from_letter(letter).map(Self::Row),
        }
    }
}

/// What counts of the SCNs that an event has: of the change and of its commit, which is the higher one. A
/// snapshot row has the SCN that it was read at; one of an incremental snapshot has those that the log was
/// read up to when its chunk was complete.
pub(super) fn newest_scn<'a>(scns: impl IntoIterator<Item = Option<&'a str>>) -> Option<Scn> {
    let digits = scns.into_iter().flatten().map(|raw| raw.trim_matches('"'));
    digits.filter_map(Scn::from_digits).max()
}

pub(super) fn unknown(reason: &str) -> EventRefusal {
    EventRefusal::UnknownEnvelope { reason: reason.to_owned() }
}
