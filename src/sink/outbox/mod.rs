//! Requests that wait in the database until a REST API has taken them: what the sink writes with an epoch, and what
//! the delivery reads and settles.

mod payload;

pub(super) use self::payload::{RenderedRequest, render};

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its place: rows of a lane are posted in the order of these.
    pub id: i64,
    pub path: String,
    pub lane: String,
    pub operation: String,
    pub idempotency_key: String,
    pub body: String,
}

/// A row that the API has refused for good, and its reason with the beginning of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRequest {
    pub id: i64,
    pub reason: String,
}
