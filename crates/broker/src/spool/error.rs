//! Why the spool cannot be read or written.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("cannot {action} spool file {path}; check free space and permissions")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "spool file {path} is damaged at byte {position}; restore it from a copy, or move the data \
         directory away to start empty"
    )]
    Damaged { path: PathBuf, position: u64 },
    #[error(
        "spool file {path} is missing although older and newer ones exist; restore it from a copy, \
         or move the data directory away to start empty"
    )]
    Missing { path: PathBuf },
    #[error("data directory {path} is in use by another broker; stop it or choose another one")]
    InUse { path: PathBuf },
}
