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

/// How a result changed in one epoch.
///
/// No key is in both batches, and none is twice in either.
#[derive(Debug, Clone)]
pub struct ResultChanges {
    pub table: Arc<ResultTable>,
    /// New and changed rows, whole, with the result's schema.
    pub upserts: RecordBatch,
    /// Per row of `upserts`: whether its key had no row before. Empty for appends, and for the whole of a
    /// result with a new definition.
    pub appeared: Vec<bool>,
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
