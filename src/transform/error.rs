//! What can go wrong while transforms run.

use datafusion::error::DataFusionError;

/// A query can't be run over the rows that it reads. These rows are to blame, or the query; nothing else is.
#[derive(Debug, thiserror::Error)]
#[error("{path} failed to run; no row of this epoch was committed")]
pub struct TransformError {
    /// The name of its result.
    pub result: String,
    pub path: String,
    #[source]
    pub source: Box<DataFusionError>,
}
