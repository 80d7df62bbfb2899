//! Why a checkpoint is not read or written; each text says what to do.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use object_store::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("checkpoint.url '{url}' is neither a path, file:///path nor s3://bucket/prefix")]
    Url {
        url: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error(
        "{} (checkpoint.url) is a file and not a folder; the data is safe in the ledger and is tried again: move the \
         file away",
        path.display()
    )]
    FileInTheWay { path: PathBuf },
    #[error(
        "can't make the folder {} (checkpoint.url); the data is safe in the ledger and is tried again: check space \
         and permissions",
        path.display()
    )]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "can't {action} {path}; the data is safe in the ledger and is tried again: check space and permissions"
    )]
    Store {
        action: &'static str,
        path: String,
        #[source]
        source: object_store::Error,
    },
    #[error("checkpoint {path} can't be encoded or decoded")]
    Parquet {
        path: String,
        #[source]
        source: parquet::errors::ParquetError,
    },
}

impl CheckpointError {
    /// `action` completes "can't".
    pub(super) fn of_store(action: &'static str, path: &Path, source: object_store::Error) -> Self {
        Self::Store { action, path: path.to_string(), source }
    }
}
