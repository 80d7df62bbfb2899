//! The development broker: durable queues over SMF/TCP, good enough for the official clients.
//!
//! It is a tool for development, demos and tests; production is Solace PubSub+. It has durable and
//! temporary queues (exclusive, shared, partitioned), topic subscriptions with wildcards, direct
//! messages, redelivery and dead-message queues. It has no TLS, no compression, no transactions,
//! no replay, no selectors, no browsers, no topic endpoints and no time-to-live.
//!
//! ```text
//! server ── accepts ──> session (one task per connection)
//!                          │  codec: frames <-> requests, answers, deliveries
//!                          v
//!                        core (one lock): connections, queues, flows, subscriptions
//!                          │
//!                          v
//!                        spool: append-only files  <── writer thread: group commit
//! ```
//! It answers questions about its queues by HTTP, as the vendor's broker does (SEMP v2, monitoring).
//!
//! Promises: a persistent message is acknowledged after it is on disk; it survives a kill of the
//! broker; per exclusive queue messages stay in order; a publisher that reconnects under its flow
//! name loses and doubles nothing. A message that matches no queue is acknowledged and dropped.
//!
//! [`api`] is the other server for development: it takes what the processor posts to a REST target.
//! The crate knows nothing of the processor.

#![forbid(unsafe_code)]

pub mod api;
mod codec;
mod config;
mod core;
mod flow;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod partition;
mod queue;
mod semp;
mod server;
mod session;
mod spool;
mod subscription;
mod writer;

use std::io;
use std::net::SocketAddr;

pub use config::{Config, Password, QueueConfig, User};
pub use queue::Access;
pub use server::run;
pub use spool::SpoolError;

/// Why the broker did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error(
        "broker has no users and would listen on {listen}; add users to its configuration, or \
         listen on 127.0.0.1"
    )]
    OpenToNetwork { listen: SocketAddr },
    #[error("broker setting {key} = {value} is out of range; allowed are 1 to {max}")]
    OutOfRange { key: &'static str, value: u64, max: u64 },
    #[error("subscription \"{topic}\" of queue {queue} has an empty level; correct it")]
    BadTopic { queue: String, topic: String },
    #[error(
        "queue {queue} exists with another access type or number of partitions; delete it first, \
         or configure it as it is"
    )]
    QueueMismatch { queue: String },
    #[error("broker cannot use its spool")]
    Spool(#[source] SpoolError),
    #[error("broker cannot {action}")]
    Io { action: &'static str, source: io::Error },
}
