//! State stores: the current rows of each source table, in memory, by key.
//!
//! A [`Store`] folds changelogs (the newest position of a key wins), tells how its rows differ after
//! that, finds rows by key or by index, and forgets rows by ttl and by group bound. It knows nothing of
//! SQL, sinks or sources.
//! [`StateStores`] holds all of them and applies the rules that need more than one table.

mod blank;
mod bucket;
mod clock;
mod enriched;
mod expiry;
mod extracted;
mod groups;
mod index;
mod keys;
mod late;
mod lookup;
mod memory;
mod missing;
mod outdated;
mod read_back;
mod segment;
mod slots;
mod store;
mod stores;
mod touched;
mod truncate;
mod unchanged;

#[cfg(test)]
mod tests;

pub use clock::{Advanced, Ahead, Clock, Ticks, TimeKind};
pub use enriched::KeysOf;
pub use late::Lateness;
pub use memory::{Excess, default_limit, memory};
pub use missing::Missing;
pub use outdated::Newest;
pub use store::{Folded, Store};
pub use stores::{Expired, StateStores};

/// Errors of the state stores: tables that don't fit together, or a broken invariant of Arrow.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state store of table {table} can't process a batch")]
    Arrow {
        table: String,
        #[source]
        source: arrow::error::ArrowError,
    },
    #[error("table {table} references table {parent}, which is not declared under sql/tables")]
    UnknownParent { table: String, parent: String },
    #[error(
        "table {table} references table {parent} by a column that is not of the type of {parent}'s one key column"
    )]
    ReferenceMismatch { table: String, parent: String },
    #[error("at the start, when all current rows are read, {0}")]
    MemoryLimit(Excess),
    #[error("table {table} references itself by way of other tables: which of them goes first?")]
    ReferenceCycle { table: String },
}
