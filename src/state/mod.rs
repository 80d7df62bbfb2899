//! State stores: the current rows of each source table, in memory, by key.
//!
//! A [`TableStore`] folds changelogs (the newest position of a key wins), tells how its rows differ after
//! that, finds rows by key or by index, and forgets rows by ttl and by group bound. It knows nothing of
//! SQL, sinks or sources.
//! [`StateStores`] holds all of them and applies the rules that need more than one table.

mod current_rows;
mod error;
mod extracted_rows;
mod late_events;
mod loader;
mod memory_excess;
mod memory_limit;
mod rehydrate;
mod stale_snapshots;
mod store;
mod stores;
mod temporal_join;
mod temporal_rows;
mod time;

#[cfg(test)]
mod tests;

pub use error::StateError;
pub use late_events::Lateness;
pub use loader::{StateLoader, TableLoader};
pub use memory_excess::MemoryExcess;
pub use memory_limit::{default_limit, memory};
pub use rehydrate::MissingRows;
pub use store::{Folded, LastChange, TableStore};
pub use stores::{Expired, StateStores};
pub use temporal_rows::KeysOf;
pub use time::{Advanced, Ahead, Clock, TimeKind};
