//! REST targets: what an epoch has to tell an API, and who tells it.
//!
//! The rows to post are written into an outbox in the epoch's transaction ([`render`] makes them), and
//! [`Delivery`] posts them afterwards: one after the other within a lane (a key of a result), in parallel
//! over lanes. A row leaves the outbox when the API has answered, so each is posted at least once and, after
//! a crash, again with the same `Idempotency-Key`. [`Backlog`] bounds the outbox.

mod auth;
mod backlog;
mod client;
mod config;
mod delivery;
mod examine;
mod lanes;
mod payload;
mod retry_after;

pub use auth::Auth;
pub use backlog::Backlog;
pub use config::RestConfig;
pub use delivery::Delivery;
pub use examine::examine;
pub(super) use payload::{RenderedRequest, render};

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
