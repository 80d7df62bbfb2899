//! The connection to a PostgreSQL server: TLS, time limits, and what its errors mean.

pub(super) mod connection;
pub(super) mod error;
pub(super) mod pooling;
pub(super) mod quote;
pub(super) mod response_deadline;
pub(super) mod session;
pub(super) mod sqlstate;
pub(super) mod tls;
pub(super) mod watchdog;
