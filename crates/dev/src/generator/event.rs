//! One change as a message.

use bytes::Bytes;

use super::row::SalesTable;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub topic: String,
    /// Messages of one key must stay in order: the order for orders and their items, else the row.
    pub key: String,
    /// Empty for a tombstone.
    pub payload: Bytes,
    pub table: SalesTable,
    pub operation: Operation,
    /// What is wrong with it on purpose.
    pub fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    MalformedJson,
    BrokenXml,
    /// Not an error: a column that the table got later.
    ExtraColumn,
}

/// What a change does to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A row of a snapshot.
    Read,
    Create,
    Update,
    Delete,
}

impl Operation {
    /// The letter of the envelope's `op` field.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
        }
    }
}
