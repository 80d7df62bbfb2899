//! How a session ends.

use crate::pipeline::error::{PipelineError, Stopped};
use crate::pipeline::session::committer::CommitterStopped;
use crate::pipeline::sql_folder::PlannedSql;
use crate::transform::TransformError;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum SessionEnd {
    Shutdown,
    /// The committer takes no more epochs; its own result says why.
    CommitterStopped,
    /// The source has no more messages, and all of them are committed.
    Drained,
    /// Another processor committed since the state was loaded.
    Overtaken,
    /// An epoch failed and could not be taken back; what is known about it decides how the messages are taken the
    /// next time.
    StateBroken,
    /// A query fails over too many events for these to be to blame: its result waits, the others go on.
    ResultFailed(TransformError),
    /// The target refused landing rows at the commit; their events come again as dead letters.
    RowsRefused,
    /// Refused rows of results are asked for again; a start puts them right.
    RowsAwaited,
    /// The SQL files were edited, and all that was processed with the old ones is committed.
    Edited(Box<PlannedSql>),
    /// Events have shown a column that a file waits for, or a table that no file declares; or a target that a
    /// file waits for fits.
    Learned,
    /// The database has lost epochs that were committed; a start finds out which.
    Forgotten,
    /// Neither waiting nor another session heals it.
    Failed(PipelineError),
}

impl From<Stopped> for SessionEnd {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Shutdown => Self::Shutdown,
            Stopped::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<CommitterStopped> for SessionEnd {
    fn from(CommitterStopped: CommitterStopped) -> Self {
        Self::CommitterStopped
    }
}

impl<E> From<E> for SessionEnd
where
    PipelineError: From<E>,
{
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
