//! Errors of the state stores.

use super::disk::DiskError;
use super::memory_excess::MemoryExcess;

/// Errors of the state stores: tables that don't fit together, or a broken invariant of Arrow.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state store of table {table} can't process a batch")]
    Arrow {
        table: String,
        #[source]
        source: arrow::error::ArrowError,
    },
    #[error("table {table} references table {parent}, which is not declared under sql/tables")]
    UnknownParent { table: String, parent: String },
    #[error(
        "table {table} references table {parent} by a column that is not of the type of {parent}'s one key column"
    )]
    ReferenceMismatch { table: String, parent: String },
    #[error("at the start, when all current rows are read, {0}")]
    MemoryLimit(MemoryExcess),
    #[error(transparent)]
    Disk(#[from] DiskError),
}
