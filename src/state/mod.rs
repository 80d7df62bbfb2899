//! State stores: the current rows of each source table by key, in memory and on local disk.
//!
//! A [`TableStore`] folds changelogs (the newest position of a key wins), tells how its rows differ after
//! that, finds rows by key or by index wherever they are, and moves rows to the disk. It knows nothing of
//! SQL, sinks or sources.
//! [`StateStores`] holds all of them and applies the rules that need more than one table.

mod config;
mod current_rows;
mod disk;
mod durable;
mod error;
mod extracted_rows;
mod late_events;
mod loader;
mod memory;
mod memory_excess;
mod recall;
mod stale_snapshots;
mod store;
mod stores;
mod temporal_join;
mod temporal_rows;
mod time;

#[cfg(test)]
mod tests;

pub use config::StateConfig;
pub use disk::{DiskError, StateFolder};
pub use durable::StateFlush;
pub use error::StateError;
pub use loader::StateLoader;
pub use memory::{Evicted, memory};
pub use memory_excess::MemoryExcess;
pub use store::{Folded, LastChange, TableStore};
pub use stores::StateStores;
pub use temporal_rows::KeysOf;
pub use time::{Advanced, Ahead, Clock, TimeKind};
