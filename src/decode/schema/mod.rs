//! What events and messages say about tables: columns that no file declares, tables that no file
//! declares, and what the source itself announces.

mod discovered_tables;
mod observed_columns;
mod schema_message;

pub use discovered_tables::RegisteredTables;
pub(super) use discovered_tables::{UndeclaredEvent, UndeclaredTables, undeclared};
pub(super) use observed_columns::ObservedColumns;
pub(super) use schema_message::{AnnouncedColumn, RenamedColumn, columns, keys, renamed};
