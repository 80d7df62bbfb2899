//! What the messages of an epoch become.

use crate::model::{Changelog, DeadLetter, Offset, PositionError, SchemaChange, SourceTable};

use super::debezium::DebeziumEvent;
use super::rows::{KeptDocuments, UnreadParts};

/// What an epoch's messages say. Every message is in exactly one of `changes`, `dead_letters`, `passed` and
/// `held`, but for one whose document can't be read: its row is a change, and it is a dead letter as well.
#[derive(Debug, Default)]
pub struct Decoded {
    /// One per table that has rows, in the order of declaration.
    pub changes: Vec<Changelog>,
    /// In broker order.
    pub dead_letters: Vec<DeadLetter>,
    pub passed: Passed,
    /// Events of tables that this epoch registers: a decoder that knows these has to see them again.
    pub held: Vec<Offset>,
    /// Tables whose events are ignored, each once.
    pub ignored: Vec<SourceTable>,
    /// What is new about the tables' columns, in broker order; also of rows that are dead letters.
    pub schema_changes: Vec<SchemaChange>,
    pub kept: KeptDocuments,
    /// The extracted table, once for each document that could not be read.
    pub unread_documents: Vec<String>,
    /// By extracted table: what of its documents was not read.
    pub unread_parts: Vec<(String, UnreadParts)>,
}

/// Messages that rightly change no row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    pub tombstones: usize,
    pub heartbeats: usize,
    pub transaction_markers: usize,
    pub schema_changes: usize,
    pub notifications: usize,
    pub signals: usize,
    /// Events of tables that are not declared and ignored.
    pub unknown_tables: usize,
}

/// The epoch as a whole was put together wrongly; no message is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("a message of the epoch has no position")]
    Position(#[source] PositionError),
    #[error("the epoch's {bytes} bytes do not fit one batch: lower the batch limits")]
    EpochTooLarge { bytes: usize },
}

impl Passed {
    pub(super) fn count(&mut self, event: &DebeziumEvent<'_>) {
        match event {
            DebeziumEvent::Tombstone => self.tombstones += 1,
            DebeziumEvent::Heartbeat => self.heartbeats += 1,
            DebeziumEvent::Transaction => self.transaction_markers += 1,
            DebeziumEvent::SchemaChange(_) => self.schema_changes += 1,
            DebeziumEvent::Notification => self.notifications += 1,
            DebeziumEvent::Signal => self.signals += 1,
            DebeziumEvent::Change(_) => {}
        }
    }
}
