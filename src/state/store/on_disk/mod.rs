//! Rows of a table that are not in memory, on local disk.
//!
//! What a table has in memory hides what it has here: a key is looked for in memory first. A row comes here when it
//! leaves memory, and what is here of its key is replaced only then.
//!
//! A table has a prefix of keys for its rows, and one for each of its indexes ([`disk_table`]); a row is the change
//! that made it, and its values in Arrow's row format ([`record`]).

mod disk_table;
mod record;

pub(super) use disk_table::{DiskTable, LeavingKey, LeavingRows};
pub(super) use record::DiskRow;
