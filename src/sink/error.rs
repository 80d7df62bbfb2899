//! Why a sink could not do what it was asked, and what the pipeline does about it.

use std::error::Error as StdError;

use crate::model::{Epoch, Offset};
use crate::resilience::{Flood, Recovery};

/// Attempts at a target that is away, before it is left alone for a while.
pub(super) const ATTEMPTS_AWAY: u32 = 10;

type BoxedCause = Box<dyn StdError + Send + Sync>;

/// Why a sink could not do what it was asked; one variant per decision of the pipeline.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The target cannot be reached, or it went away. The same call may succeed later.
    #[error("the target is not available while {doing}")]
    Unavailable {
        doing: String,
        #[source]
        source: BoxedCause,
    },
    /// The target is there and gave this transaction up: a lock, a timeout, a deadlock, no space.
    #[error("the target gave up {doing}: {reason}")]
    Interrupted {
        doing: String,
        reason: String,
        /// Failures in a row after which the target is left alone for a while; `None`: as configured.
        attempts: Option<u32>,
        #[source]
        source: BoxedCause,
    },
    /// COMMIT was answered, and the ledger shows that nothing was written.
    #[error("epoch {epoch} was rolled back by the target although every statement succeeded")]
    RolledBack { epoch: Epoch },
    /// Somebody else committed this epoch or one above it.
    #[error(
        "epoch {epoch} of pipeline '{pipeline}' is not above the last committed one: another processor runs on this pipeline; stop one of them"
    )]
    Fenced { pipeline: String, epoch: Epoch },
    /// The epoch that this one follows is not in the ledger any more, or it is another run's.
    #[error(
        "the database has lost committed epochs of pipeline '{pipeline}': this processor has committed epoch {expected}, and the newest one in the ledger is {}; their messages were acknowledged", newest_text(*newest)
    )]
    Forgotten { pipeline: String, newest: Option<Epoch>, expected: Epoch },
    /// The target refuses: login, permission, a table that is gone.
    #[error("the target refuses {doing}: {message}; {advice}")]
    Refused {
        doing: String,
        message: String,
        advice: &'static str,
        #[source]
        source: Option<BoxedCause>,
    },
    /// A value that the target's column cannot hold, or a constraint that a row violates.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Rows of landing tables that the target refuses, each of them alone. Nothing of the epoch was written.
    #[error("{} row(s) of the epoch are refused, the first one: {}", rows.len(), first(rows))]
    RowsRefused { rows: Vec<RefusedRow> },
    /// So many rows are refused that the rows are not to blame.
    #[error(
        "{table} refuses {refused} of {of} rows, which is a fault of the table rather than of the rows: nothing is diverted; the first one: {first}; repair the table, or raise sink.postgres.max_refused_percent"
    )]
    Flood { table: String, refused: u64, of: u64, first: String },
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
        source: Option<BoxedCause>,
    },
    /// Landing or ledger hold something that this program did not write.
    #[error("{table} holds {what}")]
    Unreadable { table: String, what: String },
    /// The sink's section of the configuration is wrong.
    #[error("{}", problems.join("; "))]
    Config { problems: Vec<String> },
}

/// A row of a landing table that the target refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// The source table in SQL.
    pub table: String,
    /// The same as the source names it.
    pub source: String,
    /// The message that the row comes from.
    pub offset: Offset,
    /// The target's column, where that is known.
    pub column: Option<String>,
    /// One sentence: which target refuses what, and what to do about it. It has values of the row.
    pub message: String,
    /// The same for logs and pages, without values of the row.
    pub told: String,
    /// What finds such a row before it is applied.
    pub level: PreflightLevel,
}

/// How the rows of a table are looked at before they are applied, after it has refused some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PreflightLevel {
    /// Its CHECK constraints are evaluated over them.
    Checks,
    /// They are written, and rolled back.
    Trial,
}

fn first(rows: &[RefusedRow]) -> &str {
    rows.first().map_or("", |row| row.told.as_str())
}

/// Where a value did not fit; as much of it as is known. Its text goes to logs and pages, so it has no value of a row.
#[derive(Debug, thiserror::Error)]
#[error("a row does not fit {}{}: {message}", table.as_deref().unwrap_or("its table"), in_column(column))]
pub struct DataError {
    pub table: Option<String>,
    pub column: Option<String>,
    /// Position of the row in its batch of the epoch.
    pub row: Option<usize>,
    /// Without any value of the row.
    pub message: String,
    /// Boxed, because every result of the sink has room for it. It is no `source`, which logs show.
    pub detail: Option<Box<ServerDetail>>,
}

/// What the server says of a row's values.
#[derive(Debug)]
pub struct ServerDetail {
    /// The whole message, for the dead letter alone.
    pub text: String,
    /// The server's error itself, for whoever decides by it.
    pub cause: Option<BoxedCause>,
}

impl DataError {
    /// What the dead letter says, which has the row anyway.
    pub(crate) fn with_detail(&self) -> &str {
        self.detail.as_ref().map_or(&self.message, |detail| &detail.text)
    }

    /// The server's error itself.
    pub(crate) fn cause<E: StdError + 'static>(&self) -> Option<&E> {
        self.detail.as_ref()?.cause.as_ref()?.downcast_ref()
    }
}

fn newest_text(newest: Option<Epoch>) -> String {
    newest.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string())
}

fn in_column(column: &Option<String>) -> String {
    column.as_ref().map(|column| format!(", column {column}")).unwrap_or_default()
}

impl From<Flood> for SinkError {
    fn from(Flood { table, refused, of, first }: Flood) -> Self {
        Self::Flood { table, refused, of, first }
    }
}

impl SinkError {
    /// What the pipeline does about it.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Unavailable { .. } | Self::Interrupted { .. } | Self::RolledBack { .. } => {
                Recovery::Retry
            }
            Self::Refused { .. } | Self::Targets { .. } | Self::Flood { .. } => Recovery::Hold,
            Self::RowsRefused { .. } => Recovery::DeadLetter,
            Self::Fenced { .. }
            | Self::Forgotten { .. }
            | Self::Data(_)
            | Self::MigrationChanged { .. }
            | Self::Migration { .. }
            | Self::Unreadable { .. }
            | Self::Config { .. } => Recovery::Stop,
        }
    }

    /// Failures in a row after which the target is left alone for a while; `None`: as configured.
    pub fn attempts(&self) -> Option<u32> {
        match self {
            Self::Unavailable { .. } => Some(ATTEMPTS_AWAY),
            Self::Interrupted { attempts, .. } => *attempts,
            Self::Refused { .. } | Self::Targets { .. } | Self::Flood { .. } => Some(1),
            Self::RolledBack { .. }
            | Self::RowsRefused { .. }
            | Self::Fenced { .. }
            | Self::Forgotten { .. }
            | Self::Data(_)
            | Self::MigrationChanged { .. }
            | Self::Migration { .. }
            | Self::Unreadable { .. }
            | Self::Config { .. } => None,
        }
    }
}
