//! Rows of a query that its result does not show, and the dead letters about them.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::ErrorType;
use crate::model::ResultTable;

/// Why a result does not show a row of its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeftOutReason {
    /// A key column of it is NULL.
    NullKey,
    /// Another row has the same key.
    DuplicateKey,
}

impl LeftOutReason {
    pub fn error_type(self) -> ErrorType {
        match self {
            Self::NullKey => ErrorType::NullKey,
            Self::DuplicateKey => ErrorType::DuplicateKey,
        }
    }
}

/// Rows that an epoch has left out of a result.
#[derive(Debug, Clone)]
pub struct LeftOutRows {
    pub result: Arc<ResultTable>,
    /// The SQL file.
    pub path: String,
    pub reason: LeftOutReason,
    pub count: u64,
    /// Some of them, with the result's columns; one at least.
    pub some: RecordBatch,
}

/// A dead letter about a row of a result, which comes from no single event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultLetter {
    /// The name of the result.
    pub result: String,
    pub error_type: ErrorType,
    /// The column whose value is to blame.
    pub column: Option<String>,
    pub message: String,
    /// The row as [`super::row_json`] writes it.
    pub row: String,
}
