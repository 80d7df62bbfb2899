//! The queue of a Solace broker, through the vendor's C library.
//!
//! `solace-rs` has no consumer of queues and hides its session, so this is a wrapper of our own over
//! `solace-rs-sys`: [`ffi`] has the handles and all unsafe code, [`session`] the settings of a session,
//! [`consumer`] keeps a flow bound and buffers what it delivers, and [`publisher`] sends. [`browse`] looks at a
//! queue without consuming, [`semp`] asks the broker about it.
//!
//! The crate knows nothing of the processor, which adapts [`SolaceSource`] to its own trait.

mod browse;
mod config;
mod consumer;
mod depth;
mod error;
mod failure;
mod ffi;
mod message;
pub mod names;
mod offset;
mod publisher;
pub mod semp;
mod session;

pub use browse::{browse, try_to_consume};
pub use config::{Access, SempConfig, SolaceConfig};
pub use consumer::{Pressure, PressureGauge, SolaceAcknowledger, SolaceSource, SourceEvent};
pub use depth::watch_depth;
pub use error::SolaceError;
pub use failure::Failure;
pub use message::{Message, Receipt};
pub use offset::{Offset, OffsetParseError};
pub use publisher::{Outgoing, PublishConfig, PublishError, Publisher, Settled, try_to_publish};
