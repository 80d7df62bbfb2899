//! Which rows share a value of some columns.

mod bucket;
mod groups;
mod hash_index;
mod keys;

pub(super) use groups::Groups;
pub(super) use hash_index::HashIndex;
pub(in crate::state) use keys::{KeyEncoder, map_memory};
