use std::error::Error as StdError;

use crate::changelog::Epoch;
use crate::recovery::Recovery;

type Cause = Box<dyn StdError + Send + Sync>;

/// Why a sink could not do what it was asked; one variant per decision of the pipeline.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The target cannot be reached, or it went away. The same call may succeed later.
    #[error("the target is not available while {doing}")]
    Unavailable {
        doing: String,
        #[source]
        source: Cause,
    },
    /// The target is there and gave this transaction up: a lock, a timeout, a deadlock, no space.
    #[error("the target gave up {doing}: {reason}")]
    Interrupted {
        doing: String,
        reason: String,
        #[source]
        source: Cause,
    },
    /// COMMIT was answered, and the ledger shows that nothing was written.
    #[error("epoch {epoch} was rolled back by the target although every statement succeeded")]
    RolledBack { epoch: Epoch },
    /// Somebody else committed this epoch or one above it.
    #[error(
        "epoch {epoch} of pipeline '{pipeline}' is not above the last committed one: another processor runs on this pipeline; stop one of them"
    )]
    Fenced { pipeline: String, epoch: Epoch },
    /// The target refuses: login, permission, a table that is gone.
    #[error("the target refuses {doing}: {message}; {advice}")]
    Refused {
        doing: String,
        message: String,
        advice: &'static str,
        #[source]
        source: Option<Cause>,
    },
    /// A value that the target's column cannot hold, or a constraint that a row violates.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The target tables do not fit the declared tables and results.
    #[error("{} problem(s) with the target tables: {}", problems.len(), problems.join("; "))]
    Targets { problems: Vec<String> },
    /// A file of `sql/ods` was edited after it had been applied.
    #[error(
        "{file} was applied before and has changed since; restore its text and put the change into a new file"
    )]
    MigrationChanged { file: String },
    /// A file of `sql/ods` could not be applied.
    #[error("{file} cannot be applied: {message}")]
    Migration {
        file: String,
        message: String,
        #[source]
        source: Option<Cause>,
    },
    /// Landing or ledger hold something that this program did not write.
    #[error("{table} holds {what}")]
    Unreadable { table: String, what: String },
    /// The sink's section of the configuration is wrong.
    #[error("{}", problems.join("; "))]
    Config { problems: Vec<String> },
}

/// Where a value did not fit; as much of it as is known.
#[derive(Debug, thiserror::Error)]
#[error("a row does not fit {}{}: {message}", table.as_deref().unwrap_or("its table"), in_column(column))]
pub struct DataError {
    pub table: Option<String>,
    pub column: Option<String>,
    /// Position of the row in its batch of the epoch.
    pub row: Option<usize>,
    pub message: String,
    #[source]
    pub source: Option<Cause>,
}

fn in_column(column: &Option<String>) -> String {
    column.as_ref().map(|column| format!(", column {column}")).unwrap_or_default()
}

impl SinkError {
    /// What the pipeline does about it.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Unavailable { .. } | Self::Interrupted { .. } | Self::RolledBack { .. } => {
                Recovery::Retry
            }
            Self::Fenced { .. }
            | Self::Refused { .. }
            | Self::Data(_)
            | Self::Targets { .. }
            | Self::MigrationChanged { .. }
            | Self::Migration { .. }
            | Self::Unreadable { .. }
            | Self::Config { .. } => Recovery::Stop,
        }
    }
}
