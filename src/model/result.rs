//! Results: what transforms maintain, where the rows go, and how they change in an epoch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

/// What a transform maintains, and where its rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultTable {
    /// The name of the SQL file, which is the name of the result in SQL.
    pub name: String,
    /// The Postgres table that holds it, or the path that its changes are posted to.
    pub target: String,
    pub channel: Channel,
    pub schema: SchemaRef,
    pub mode: ResultMode,
    /// The SQL, and the declarations of the tables that it reads, down to the source tables. Rows that
    /// were written under another definition don't belong to the result.
    pub definition: String,
}

impl ResultTable {
    /// Whether a request of it says what its row is, so that a newer one of the same key takes its place. Else each
    /// request is a fact of its own.
    pub fn posts_versions(&self) -> bool {
        let is_keyed = matches!(self.mode, ResultMode::Keyed { .. });
        is_keyed && matches!(&self.channel, Channel::Rest(rest) if rest.sends == Sends::Changes)
    }

    /// Whether no key of it is ever posted twice.
    pub fn is_sent_once(&self) -> bool {
        matches!(&self.channel, Channel::Rest(rest) if rest.sends == Sends::Once)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultMode {
    /// Rows are only ever added.
    Append,
    /// One row per value of these columns (positions in the schema; never empty).
    Keyed { key: Vec<usize> },
}

/// By which way the changes of a result reach their target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// A table of the database.
    Table,
    /// A REST API, one request per row.
    Rest(RestChannel),
}

/// What is posted, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestChannel {
    /// Rows with the same values in these columns are posted one after the other; without columns all rows
    /// of the result are.
    pub order: Vec<usize>,
    pub sends: Sends,
    pub payload: Payload,
    /// The tables that the result reads, as the source names them.
    pub source_tables: Vec<String>,
}

/// Which changes of a keyed result are posted. Appended rows all are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// New, changed and deleted rows.
    Changes,
    /// A key that has a row and had none before.
    New,
    /// As `New`, and never again for the same key, whatever happens to it.
    Once,
}

/// What the body of a request looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The row.
    Row,
    /// The row in an envelope whose type is, say, `ORDER_CREATED` for the entity `ORDER`.
    Event { entity: String },
    /// The row in an envelope with a type and a priority.
    Notification { kind: String, priority: String },
}

/// What a target holds under the key of a row, as far as the epochs before have told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PriorRow {
    Nothing,
    /// A row that differs in these columns.
    Other(ColumnSet),
    /// A row that nobody remembers: while ttl had it out of memory, the target was not told of changes.
    Unknown,
}

/// Columns of a result; never those of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnSet(u64);

impl ColumnSet {
    pub const ALL: Self = Self(u64::MAX);
    pub const NONE: Self = Self(0);

    /// With one more, which is the position in the schema. Positions above 62 are not told apart from others:
    /// the set is then [`Self::ALL`].
    #[must_use]
    pub fn with(self, column: usize) -> Self {
        match column {
            0..63 => Self(self.0 | 1 << column),
            _ => Self::ALL,
        }
    }

    pub fn contains(self, column: usize) -> bool {
        self == Self::ALL || (column < 63 && self.0 & (1 << column) != 0)
    }

    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }
}

/// How a result changed in one epoch.
///
/// No key is in both batches, and none is twice in either.
#[derive(Debug, Clone)]
pub struct ResultChanges {
    pub table: Arc<ResultTable>,
    /// New and changed rows, whole, with the result's schema.
    pub upserts: RecordBatch,
    /// Per row of `upserts`: what its key had before. Empty for appends, and for the whole of a result with a
    /// new definition.
    pub held: Vec<PriorRow>,
    /// The keys of rows that are gone: the key columns alone, in key order. Empty for appends.
    pub deletes: RecordBatch,
    /// The definition is new to the target: what it holds goes first, unless rows are appended.
    pub is_new_definition: bool,
}

impl ResultChanges {
    pub fn is_empty(&self) -> bool {
        self.upserts.num_rows() == 0 && self.deletes.num_rows() == 0 && !self.is_new_definition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_added_and_beyond_its_size_everything() {
        let set = ColumnSet::NONE.with(0).with(62);
        assert!(set.contains(0) && set.contains(62) && !set.contains(1) && !set.contains(63));
        assert_eq!(set.len(), 2);
        assert!(ColumnSet::NONE.is_empty() && !set.is_empty());
        assert_eq!(set.with(63), ColumnSet::ALL);
        assert!(ColumnSet::ALL.contains(500));
    }
}
