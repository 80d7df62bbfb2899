//! Dead letters: events that could not be processed, and why.

use bytes::Bytes;

use crate::model::Offset;

/// An event that could not be processed, kept whole so that it can be repaired and replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub offset: Offset,
    pub topic: String,
    /// The payload exactly as it came.
    pub payload: Bytes,
    pub properties: Vec<(String, String)>,
    pub error_type: ErrorType,
    /// One sentence: what is wrong, where, and what to do about it.
    pub message: String,
    /// The table as the source names it, `SCHEMA.TABLE`, where that is known.
    pub table: Option<String>,
    /// The column whose value is to blame.
    pub column: Option<String>,
}

impl DeadLetter {
    pub fn phase(&self) -> Phase {
        self.error_type.phase()
    }
}

/// Why an event became a dead letter; the text is what operators filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The payload is not JSON.
    MalformedJson,
    /// JSON, but no Debezium event.
    UnknownEnvelope,
    /// The event's table is not declared under `sql/tables`.
    UnknownTable,
    /// The same, and so many tables are registered that no more may be.
    TooManyTables,
    /// A value does not fit its declared column.
    SchemaMismatch,
    /// The key is missing or not exact.
    InvalidKey,
    /// Understood, but there is no rule for it (a truncate).
    UnsupportedOperation,
    /// Its payload has too many bytes.
    EventTooLarge,
    /// Its table has had too many columns that are not declared.
    TooManyColumns,
    /// Its undeclared columns have too many bytes.
    UndeclaredTooLarge,
    /// An undeclared column of it is nested too deeply.
    TooDeep,
    /// A document in a column of it is malformed, or beyond a limit.
    MalformedXml,
    /// Its windows are closed, and its table or rows that ttl has dropped forbid to apply it.
    LateEvent,
    /// A query over its rows fails.
    QueryFailed,
    /// Not of events: a key column of a row of a result is NULL.
    NullKey,
    /// Not of events: two rows of a result have the same key.
    DuplicateKey,
    /// The target refuses a row: a constraint, or a value that its column can't hold.
    RowRefused,
    /// Not of events: the REST API refuses a request.
    RestRefused,
}

impl ErrorType {
    /// The step that finds this kind of error.
    pub fn phase(self) -> Phase {
        match self {
            Self::MalformedJson
            | Self::UnknownEnvelope
            | Self::UnsupportedOperation
            | Self::EventTooLarge => Phase::Decode,
            Self::UnknownTable
            | Self::TooManyTables
            | Self::SchemaMismatch
            | Self::InvalidKey
            | Self::TooManyColumns
            | Self::UndeclaredTooLarge
            | Self::TooDeep => Phase::Schema,
            Self::MalformedXml => Phase::Xml,
            Self::LateEvent => Phase::Late,
            Self::QueryFailed | Self::NullKey | Self::DuplicateKey => Phase::Sql,
            Self::RowRefused => Phase::Sink,
            Self::RestRefused => Phase::Rest,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "MALFORMED_JSON",
            Self::UnknownEnvelope => "UNKNOWN_ENVELOPE",
            Self::UnknownTable => "UNKNOWN_TABLE",
            Self::TooManyTables => "TOO_MANY_TABLES",
            Self::SchemaMismatch => "SCHEMA_MISMATCH",
            Self::InvalidKey => "INVALID_KEY",
            Self::UnsupportedOperation => "UNSUPPORTED_OPERATION",
            Self::EventTooLarge => "EVENT_TOO_LARGE",
            Self::TooManyColumns => "TOO_MANY_COLUMNS",
            Self::UndeclaredTooLarge => "UNDECLARED_TOO_LARGE",
            Self::TooDeep => "TOO_DEEP",
            Self::MalformedXml => "MALFORMED_XML",
            Self::LateEvent => "LATE_EVENT",
            Self::QueryFailed => "QUERY_FAILED",
            Self::NullKey => "NULL_KEY",
            Self::DuplicateKey => "DUPLICATE_KEY",
            Self::RowRefused => "ROW_REFUSED",
            Self::RestRefused => "REST_REFUSED",
        }
    }
}

/// The step that refused the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It can't be read.
    Decode,
    /// It does not fit the tables that are declared.
    Schema,
    /// A document in a column of it can't be read.
    Xml,
    Late,
    Sql,
    Sink,
    /// Not of events: the REST API refuses a row.
    Rest,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Schema => "schema",
            Self::Xml => "xml",
            Self::Late => "late",
            Self::Sql => "sql",
            Self::Sink => "sink",
            Self::Rest => "rest",
        }
    }
}
