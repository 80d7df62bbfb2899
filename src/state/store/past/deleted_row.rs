//! Rows and keys that were deleted.

use arrow::array::RecordBatch;

use crate::model::{KeyBytes, Position, Scn};

/// A row that the newest change of the table deleted: the next one may be the same row under a new key.
#[derive(Debug, Clone)]
pub(in crate::state::store) struct DeletedRow {
    pub(in crate::state::store) position: Position,
    pub(in crate::state::store) scn: Option<Scn>,
    /// One row, as it was; without columns that no query reads. `None` if it was not in memory.
    pub(in crate::state::store) values: Option<RecordBatch>,
}

/// A key that is remembered as deleted, until its entry may be forgotten.
#[derive(Debug)]
pub(in crate::state::store) struct RememberedDelete {
    /// When the source deleted it, microseconds.
    pub(in crate::state::store) at: i64,
    pub(in crate::state::store) position: Position,
    pub(in crate::state::store) key: KeyBytes,
}
