use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

/// What a transform maintains, and where its rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultTable {
    /// The name of the SQL file, which is the name of the result in SQL.
    pub name: String,
    /// The Postgres table that holds it.
    pub target: String,
    pub schema: SchemaRef,
    pub mode: ResultMode,
    /// The SQL, and the declarations of the tables that it reads, down to the source tables. Rows that
    /// were written under another definition don't belong to the result.
    pub definition: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultMode {
    /// Rows are only ever added.
    Append,
    /// One row per value of these columns (positions in the schema; never empty).
    Keyed { key: Vec<usize> },
}

/// How a result changed in one epoch.
///
/// No key is in both batches, and none is twice in either.
#[derive(Debug, Clone)]
pub struct ResultChanges {
    pub table: Arc<ResultTable>,
    /// New and changed rows, whole, with the result's schema.
    pub upserts: RecordBatch,
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
