//! The current rows of one source table.
//!
//! Rows stand in segments ([`segment`]), where a change never rewrites one. A key has an entry ([`place`])
//! with its newest change and the slot of its row; slots say where rows are now, so that indexes
//! ([`index`]) need not know when rows move. A fold notes which keys it touches and makes a delta of
//! them ([`delta_builder`]).

mod delta_builder;
mod fold;
mod group_bound;
mod index;
mod lookup;
mod on_disk;
mod past;
mod place;
mod pruned_columns;
mod segment;
mod settle;
mod table_store;
mod tiers;
mod truncate;
mod unchanged_cells;
mod undo;

pub use fold::Folded;
pub(super) use index::KeyEncoder;
pub use place::LastChange;
pub(super) use place::{RowPlace, Slot};
pub use table_store::TableStore;
pub(super) use tiers::Eviction;
