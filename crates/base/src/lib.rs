//! What the crates of the workspace share: what an error asks for and how it reads, secrets, and what a client of
//! HTTP needs.
//!
//! Nothing here knows a message or a table.

#![forbid(unsafe_code)]

mod chain;
pub mod http_client;
mod recovery;
mod secret;

pub use chain::chain;
pub use recovery::Recovery;
pub use secret::Secret;
