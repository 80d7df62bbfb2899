//! What the crates and programs of the workspace share: what an error asks for and how it reads, secrets, what a
//! client of HTTP needs, and what a program begins with: configuration files, logs and signals.
//!
//! Nothing here knows a message or a table.

#![forbid(unsafe_code)]

mod chain;
pub mod config_file;
pub mod http_client;
mod log_fields;
mod logs;
mod recovery;
mod secret;
mod signals;

pub use chain::chain;
pub use logs::{LogFormat, init_logs};
pub use recovery::Recovery;
pub use secret::Secret;
pub use signals::on_signal;
