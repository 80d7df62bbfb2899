//! The files of the user's SQL folder, read and parsed, and errors that point into them.

pub(crate) mod header;
mod learned;
pub(crate) mod location;
mod options;
mod sql_file;
mod tables;

pub(crate) use tables::changes_name;

pub use learned::learned_columns;
pub use sql_file::{SqlError, SqlFile, read_folder};
pub use tables::{parse_tables, parse_type};
