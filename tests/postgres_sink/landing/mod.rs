//! What landing tables keep: a part of the history, or current rows.

mod current_rows;
mod pruning;
