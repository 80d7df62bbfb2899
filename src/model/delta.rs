//! How current rows differ after an epoch, and how operators look up the rows that stay.

use std::fmt;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;

/// How the current rows of a source table differ from before.
///
/// Shape: all four batches have the table's declared columns. No key is in two of the three kinds, and
/// none is twice in one.
#[derive(Debug, Clone)]
pub struct TableDelta {
    pub table: String,
    /// Rows of keys that were there and still are: `before[i]` became `after[i]`.
    pub before: RecordBatch,
    pub after: RecordBatch,
    pub inserted: RecordBatch,
    pub deleted: RecordBatch,
}

impl TableDelta {
    pub fn is_empty(&self) -> bool {
        self.after.num_rows() + self.inserted.num_rows() + self.deleted.num_rows() == 0
    }
}

/// What a look-up asks for: the rows whose `columns` hold one of `keys`.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// Positions of columns, each once.
    pub columns: &'a [usize],
    /// One array per column, of the column's type; row `i` of them is key `i`. A key may come twice.
    pub keys: &'a [ArrayRef],
    /// Whether NULL finds NULL, as in `IS NOT DISTINCT FROM`.
    pub nulls_match: bool,
}

/// The rows that a look-up found.
#[derive(Debug, Clone)]
pub struct Found {
    pub rows: RecordBatch,
    /// Per row: which key found it.
    pub key_of: Vec<u32>,
}

/// The current rows of all source tables, as of the end of the epoch that is being processed.
pub trait CurrentRows: fmt::Debug + Sync {
    /// The rows of `table`, with the columns of `projection`, that a look-up finds.
    ///
    /// Cost: follows the rows that are found, if the table has an index on the columns.
    ///
    /// # Errors
    /// If there is no index on the columns, or Arrow can't process the rows.
    fn find(
        &self,
        table: &str,
        lookup: Lookup<'_>,
        projection: &[usize],
    ) -> Result<Found, ArrowError>;

    /// How many rows each key of a look-up has.
    ///
    /// # Errors
    /// As [`Self::find`].
    fn count(&self, table: &str, lookup: Lookup<'_>) -> Result<Vec<usize>, ArrowError>;

    /// Shows `visit` all rows of `table`, in no particular order, part by part.
    ///
    /// # Errors
    /// If there is no such table, Arrow can't process the rows, or that of `visit`.
    fn scan(
        &self,
        table: &str,
        visit: &mut dyn FnMut(RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<(), ArrowError>;

    /// All rows of `table` at once.
    ///
    /// # Errors
    /// As [`Self::scan`].
    fn all(&self, table: &str) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut parts = Vec::new();
        self.scan(table, &mut |part| {
            parts.push(part);
            Ok(())
        })?;
        Ok(parts)
    }
}
