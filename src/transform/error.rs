//! What can go wrong while transforms run, and whether it goes by itself.

use datafusion::error::DataFusionError;

use crate::resilience::Recovery;

/// Errors of running a transform.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    #[error("{path} failed to run; no row of this epoch was committed")]
    Run {
        path: String,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("{path}: two rows have the key ({key}): correct the `-- key:` line or the SELECT")]
    DuplicateKey { path: String, key: String },
    #[error("{path}: the key column {column} is NULL in a row: a key must always have a value")]
    NullKey { path: String, column: String },
    #[error("{path}: the rows of the result can't be compared")]
    Compare {
        path: String,
        #[source]
        source: arrow::error::ArrowError,
    },
}

impl TransformError {
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Run { .. } => Recovery::DeadLetter,
            Self::DuplicateKey { .. } | Self::NullKey { .. } | Self::Compare { .. } => {
                Recovery::Stop
            }
        }
    }
}
