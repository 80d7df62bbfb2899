//! Why an event is not decoded, and the dead letter that it becomes.

use crate::changelog::{DeadLetter, ErrorType, Message, Phase};

/// Characters of a dead letter's message.
const MAX_MESSAGE: usize = 500;

/// One variant per error type: that is what operators filter by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the payload is not JSON: {reason}")]
    MalformedJson { reason: String },
    #[error("the payload is no Debezium change event: {reason}")]
    UnknownEnvelope { reason: String },
    #[error(
        "table {source_table} is not declared: add a file under sql/tables with \
         CREATE TABLE {name} (...) WITH (source = '{source_table}')"
    )]
    UnknownTable { source_table: String, name: String },
    #[error("table {table}: {reason}")]
    SchemaMismatch { table: String, reason: String },
    #[error("table {table}: {reason}")]
    InvalidKey { table: String, reason: String },
    #[error("table {table}: {reason}")]
    UnsupportedOperation { table: String, reason: String },
}

impl Refusal {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::MalformedJson { .. } => ErrorType::MalformedJson,
            Self::UnknownEnvelope { .. } => ErrorType::UnknownEnvelope,
            Self::UnknownTable { .. } => ErrorType::UnknownTable,
            Self::SchemaMismatch { .. } => ErrorType::SchemaMismatch,
            Self::InvalidKey { .. } => ErrorType::InvalidKey,
            Self::UnsupportedOperation { .. } => ErrorType::UnsupportedOperation,
        }
    }

    pub(super) fn into_dead_letter(self, message: &Message) -> DeadLetter {
        DeadLetter {
            offset: message.offset,
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            properties: message.properties.clone(),
            error_type: self.error_type(),
            message: clip(&self.to_string(), MAX_MESSAGE),
            phase: Phase::Decode,
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
