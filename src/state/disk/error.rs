//! What can go wrong with the disk of the state.

use std::path::PathBuf;

use arrow::error::ArrowError;

/// The disk does not do what the state asks of it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the folder of the state, {}, can't be used: see [state] path", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "another process has the folder of the state, {}: each processor needs its own ([state] path)",
        .0.display()
    )]
    Locked(PathBuf),
    #[error("the state on disk in {} can't be read or written", path.display())]
    Engine {
        path: PathBuf,
        #[source]
        source: Box<fjall::Error>,
    },
    #[error("the thread that writes the state to disk has panicked")]
    Stopped,
    #[error("the state on disk in {} holds a row that can't be read: is the disk sound?", .0.display())]
    Damaged(PathBuf),
}

impl From<DiskError> for ArrowError {
    fn from(error: DiskError) -> Self {
        Self::from_external_error(Box::new(error))
    }
}
