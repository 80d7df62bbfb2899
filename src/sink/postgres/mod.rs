//! Postgres: landing tables, results, dead letters and the ledger, one transaction per epoch.
//!
//! Start: [`SchemaAdmin::apply_ods`] (files of `sql/ods` and the sink's own tables), then
//! [`PostgresSink::check_targets`], then [`Sink::resume`](crate::sink::Sink::resume). A new
//! [`PostgresSink::check_targets`] while running swaps targets in; if it fails, the old ones stay.
//!
//! The connection is made when it is needed and dropped after any error, which ends its
//! transaction; the next call makes a new one. Nothing here waits and tries again: the pipeline
//! does, by [`SinkError::recovery`](crate::sink::SinkError::recovery).
//!
//! Changed rows of keyed results go by arrays and `unnest` instead of a staging table. Measured against
//! one on PostgreSQL 15: two thirds of its time or less up to 1,000 rows, the same server CPU above; and
//! no temporary table has to be kept per connection. Only what differs from the target is sent.

mod client;
mod commit;
mod config;
mod dead_letters;
mod doctor;
mod ledger_reader;
mod outbox;
mod pruning;
mod read;
mod refused_rows;
mod remedies;
mod schema;
mod schema_admin;
mod sink;
mod sslmode;
mod target;
mod targets;

pub use config::{Pooler, PostgresConfig};
pub use dead_letters::store::{
    LetterCount, LetterFilter, LetterOrder, LetterState, LetterStore, OpenLetters, StoredLetter,
};
pub use doctor::compatibility::Unfit;
pub use doctor::{Requirements, examine};
pub use ledger_reader::{LedgerLimit, LedgerReader};
pub use outbox::{Outbox, Turn};
pub use pruning::{LandingPruner, Pruned};
pub use schema::alter::{Altered, FailedAlter};
pub use schema::create::{definition as table_definition, landing_definition};
pub use schema_admin::SchemaAdmin;
pub use sink::PostgresSink;
pub use sslmode::SslMode;
