//! The row that a table has lost last.

use arrow::array::RecordBatch;

use crate::model::{Offset, Scn};

/// A row that the newest change of the table deleted: the next one may be the same row under a new key.
#[derive(Debug, Clone)]
pub(super) struct DeletedRow {
    pub(super) offset: Offset,
    pub(super) scn: Option<Scn>,
    /// One row, as it was; without columns that no query reads. `None` if it was not in memory.
    pub(super) values: Option<RecordBatch>,
}
