//! Why the processor stops, and why a step of an epoch does.

use crate::checkpoint::CheckpointError;
use crate::decode::DecodeError;
use crate::model::Epoch;
use crate::pipeline::decode_flood::DecodeFlood;
use crate::pipeline::history::{HistoryError, LostHistory};
use crate::sink::SinkError;
use crate::source::SourceError;
use crate::state::{DiskError, StateError};
use crate::transform::{SqlError, TransformError};

/// Why the pipeline stopped. Everything that waiting can heal was waited for before.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("{} problem(s) in the SQL files:\n  {}", .0.len(), lines(.0))]
    Sql(Vec<SqlError>),
    #[error("the source stopped")]
    Source(#[from] SourceError),
    #[error("the target can't be used")]
    Sink(#[from] SinkError),
    #[error("the processor stopped committing")]
    Commit(#[from] CommitError),
    #[error("an epoch can't be decoded")]
    Decode(#[from] DecodeError),
    #[error("the state stores failed")]
    State(#[from] StateError),
    #[error("a transform failed")]
    Transform(#[from] TransformError),
    #[error(transparent)]
    Forgotten(Box<LostHistory>),
    #[error("checkpoints can't be opened")]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "files of sql/ods wait for a start of the processor or `tidemark apply`: {}; until then it creates no table",
        files.join(", ")
    )]
    PendingFiles {
        files: Vec<String>,
        #[source]
        source: Box<PipelineError>,
    },
    #[error("{0}")]
    Flooded(Box<DecodeFlood>),
    #[error("an epoch of these events makes the program panic: {what}")]
    Crashed { what: String },
    #[error("a part of the program panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

impl From<HistoryError> for PipelineError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Sink(error) => Self::Sink(error),
            HistoryError::Lost(lost) => Self::Forgotten(lost),
        }
    }
}

impl PipelineError {
    /// Whether the rows of an epoch can be to blame, so that it is looked for the event that makes it fail.
    pub(super) fn may_be_of_an_event(&self) -> bool {
        if self.is_of_the_disk() {
            return false;
        }
        match self {
            Self::Transform(_)
            | Self::State(StateError::Arrow { .. })
            | Self::Decode(DecodeError::EpochTooLarge { .. })
            | Self::Crashed { .. } => true,
            Self::Sql(_)
            | Self::Source(_)
            | Self::Sink(_)
            | Self::Commit(_)
            | Self::Decode(DecodeError::Position(_))
            | Self::State(_)
            | Self::Forgotten(_)
            | Self::Checkpoint(_)
            | Self::Flooded(_)
            | Self::PendingFiles { .. }
            | Self::Panicked(_) => false,
        }
    }
}

impl PipelineError {
    /// Whether the disk of the state is to blame, by whatever way the error came.
    pub(super) fn is_of_the_disk(&self) -> bool {
        let mut error: Option<&(dyn std::error::Error + 'static)> = Some(self);
        std::iter::from_fn(|| {
            let this = error?;
            error = this.source();
            Some(this)
        })
        .any(|error| error.is::<DiskError>())
    }
}

fn lines(errors: &[SqlError]) -> String {
    errors.iter().map(SqlError::to_string).collect::<Vec<_>>().join("\n  ")
}

/// Why the committer stopped.
#[derive(Debug, thiserror::Error)]
#[error("epoch {epoch} can't be committed")]
pub struct CommitError {
    pub epoch: Epoch,
    /// Whether this processor had committed before: if not, its state was stale from the start.
    pub had_committed: bool,
    #[source]
    pub source: SinkError,
}

/// Why a step has no result.
#[derive(Debug)]
pub(super) enum Stopped<E = PipelineError> {
    /// Shutdown came while the target was away.
    Shutdown,
    Failed(E),
}

impl<E> From<E> for Stopped
where
    PipelineError: From<E>,
{
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use arrow::error::ArrowError;
    use datafusion::error::DataFusionError;

    use super::*;

    #[test]
    fn a_disk_that_fails_is_never_the_fault_of_an_event() {
        let disk = || DiskError::Damaged("/state".into());
        let failed = |source: DataFusionError| {
            let (result, path) = ("a".to_owned(), "a.sql".to_owned());
            PipelineError::from(TransformError { result, path, source: Box::new(source) })
        };
        let of_arrow = |source| StateError::Arrow { table: "orders".to_owned(), source };
        assert!(!failed(ArrowError::from(disk()).into()).may_be_of_an_event());
        assert!(!PipelineError::from(of_arrow(disk().into())).may_be_of_an_event());
        let overflow = || ArrowError::ArithmeticOverflow("2^63".to_owned());
        assert!(failed(overflow().into()).may_be_of_an_event());
        assert!(PipelineError::from(of_arrow(overflow())).may_be_of_an_event());
    }
}
