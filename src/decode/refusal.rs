//! Why an event is not decoded, and the dead letter that it becomes.

use crate::model::{DeadLetter, ErrorType, Message};

/// Characters of a dead letter's message.
const MAX_MESSAGE: usize = 500;

/// One variant per error type: that is what operators filter by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EventRefusal {
    #[error("the payload is not JSON: {reason}")]
    MalformedJson { reason: String },
    #[error("the payload is no Debezium change event: {reason}")]
    UnknownEnvelope { reason: String },
    #[error(
        "table {source_table} is not declared: add a file under sql/tables with \
         CREATE TABLE {name} (...) WITH (source = '{source_table}')"
    )]
    UnknownTable { source_table: String, name: String },
    #[error(
        "table {source_table} is not declared, and {limit} tables are registered without being declared, which \
         is limits.max_registered_tables: declare it, or raise that"
    )]
    TooManyTables { source_table: String, limit: usize },
    #[error(
        "table {source_table} is registered without being declared, and can't be used: {reason}; then restart \
         and replay it (tidemark dlq replay)"
    )]
    Withdrawn { source_table: String, reason: String },
    #[error("table {table}: {reason}")]
    SchemaMismatch { table: String, column: Option<String>, reason: String },
    #[error("table {table}: {reason}")]
    InvalidKey { table: String, column: Option<String>, reason: String },
    #[error("table {table}: {reason}")]
    UnsupportedOperation { table: String, reason: String },
    #[error(
        "the payload has {bytes} bytes, which is above limits.max_event_bytes ({limit}): raise it and \
         replay it (tidemark dlq replay)"
    )]
    EventTooLarge { bytes: usize, limit: usize },
    #[error(
        "table {table}: {new} columns are new and {known} are known without being declared, which is \
         above limits.max_undeclared_columns ({limit}): declare them, or raise it"
    )]
    TooManyColumns { table: String, known: usize, new: usize, limit: usize },
    #[error(
        "table {table}: undeclared fields take more than limits.max_undeclared_bytes ({limit}): \
         declare the large ones, or raise it"
    )]
    UndeclaredTooLarge { table: String, limit: usize },
    #[error(
        "table {table}: undeclared field {column} is nested deeper than limits.max_depth ({limit}): \
         declare it as VARCHAR, or raise it"
    )]
    TooDeep { table: String, column: String, limit: usize },
    #[error("{told}")]
    InArray {
        /// Which events of a JSON array are refused and why.
        told: String,
        first: Box<Self>,
    },
    #[error("table {table}: the XML in column {column} can't be read: {reason}")]
    MalformedXml { table: String, column: String, reason: String },
}

impl EventRefusal {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::MalformedJson { .. } => ErrorType::MalformedJson,
            Self::UnknownEnvelope { .. } => ErrorType::UnknownEnvelope,
            Self::UnknownTable { .. } | Self::Withdrawn { .. } => ErrorType::UnknownTable,
            Self::TooManyTables { .. } => ErrorType::TooManyTables,
            Self::SchemaMismatch { .. } => ErrorType::SchemaMismatch,
            Self::InvalidKey { .. } => ErrorType::InvalidKey,
            Self::UnsupportedOperation { .. } => ErrorType::UnsupportedOperation,
            Self::EventTooLarge { .. } => ErrorType::EventTooLarge,
            Self::TooManyColumns { .. } => ErrorType::TooManyColumns,
            Self::UndeclaredTooLarge { .. } => ErrorType::UndeclaredTooLarge,
            Self::TooDeep { .. } => ErrorType::TooDeep,
            Self::MalformedXml { .. } => ErrorType::MalformedXml,
            Self::InArray { first, .. } => first.error_type(),
        }
    }

    /// One dead letter for two documents of one event.
    pub(super) fn and(mut self, other: &Self) -> Self {
        if let Self::MalformedXml { reason, .. } | Self::SchemaMismatch { reason, .. } = &mut self {
            *reason = format!("{reason}; also: {other}");
        }
        self
    }

    /// Which table of the source, and which column of it.
    fn place(&self) -> (Option<&String>, Option<&String>) {
        match self {
            Self::MalformedJson { .. }
            | Self::UnknownEnvelope { .. }
            | Self::EventTooLarge { .. } => (None, None),
            Self::UnknownTable { source_table, .. }
            | Self::TooManyTables { source_table, .. }
            | Self::Withdrawn { source_table, .. } => (Some(source_table), None),
            Self::SchemaMismatch { table, column, .. } | Self::InvalidKey { table, column, .. } => {
                (Some(table), column.as_ref())
            }
            Self::TooDeep { table, column, .. } | Self::MalformedXml { table, column, .. } => {
                (Some(table), Some(column))
            }
            Self::InArray { first, .. } => first.place(),
            Self::UnsupportedOperation { table, .. }
            | Self::TooManyColumns { table, .. }
            | Self::UndeclaredTooLarge { table, .. } => (Some(table), None),
        }
    }

    pub(super) fn into_dead_letter(self, message: &Message) -> DeadLetter {
        let (table, column) = self.place();
        let (table, column) = (table.cloned(), column.cloned());
        DeadLetter {
            offset: message.offset,
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            properties: message.properties.clone(),
            error_type: self.error_type(),
            message: clip(&self.to_string(), MAX_MESSAGE),
            table,
            column,
        }
    }
}

/// At most `limit` characters of `text`; a cut text ends in an ellipsis.
pub(super) fn clip(text: &str, limit: usize) -> String {
    if text.chars().nth(limit).is_none() {
        return text.to_owned();
    }
    text.chars().take(limit - 1).chain(['…']).collect()
}
