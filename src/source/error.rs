//! Why a source does not go on.

use std::io;
use std::path::PathBuf;

use tidemark_solace::SolaceError;

use crate::resilience::Recovery;

/// Why a source does not go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Solace(#[from] SolaceError),
    #[error("{} cannot be read", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl SourceError {
    /// What helps: another try, or an operator.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Solace(error) => error.recovery(),
            Self::File { .. } => Recovery::Stop,
        }
    }
}
