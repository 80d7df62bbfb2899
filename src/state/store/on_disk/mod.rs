//! Rows of a table on local disk, as they were at the last flush.
//!
//! What a table has in memory hides what it has here: a key is looked for in memory first. A row may leave memory when
//! it is here as it is there.
//!
//! A table has a prefix of keys for its rows, and one for each of its indexes ([`disk_table`]); a row is the change
//! that made it, and its values in Arrow's row format ([`record`]).

mod disk_table;
mod record;

pub(super) use disk_table::{DiskKey, DiskRows, DiskTable};
pub(super) use record::DiskRow;
