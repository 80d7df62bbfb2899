//! REST targets: what an epoch has to tell an API, and who tells it.
//!
//! The rows to post are written into an outbox in the epoch's transaction (`sink::outbox` makes them), and
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
mod retry_after;

pub use auth::Auth;
pub use backlog::Backlog;
pub use config::RestConfig;
pub use delivery::Delivery;
pub use examine::examine;
