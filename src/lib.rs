//! Tidemark: Oracle change events from a Solace queue, kept exact in PostgreSQL.
//!
//! One epoch, the way a message goes: [`source`] hands it out, [`decode`] turns it into a row of a
//! changelog, [`state`] folds the row into the current table, [`transform`] runs the SQL files and
//! yields what changed in each result, [`sink`] writes landing rows, results, dead letters and the
//! ledger in one transaction, the source is acknowledged, and [`checkpoint`] copies the ledger to Parquet.
//! [`pipeline`] is the loop that ties them together; the parts don't know each other and meet in the
//! values of [`model`].
//!
//! The workspace has four more crates: the Solace client, the development broker and API, the development commands,
//! and what all of them share.

#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod dashboard;
pub mod decode;
pub mod diagnosis;
pub mod model;
pub mod pipeline;
pub mod resilience;
pub mod sink;
pub mod source;
pub mod state;
pub mod telemetry;
pub mod transform;
pub mod xml;
