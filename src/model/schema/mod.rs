//! Source tables and their columns: those that files declare, and those that events show.

mod discovered_tables;
mod extra_column;
mod json_fields;
mod json_number;
mod promoted_column;
mod schema_change;
mod sure_type;
mod table;

pub use discovered_tables::{CHANGE_ID, MAX_KEY_COLUMNS, MAX_NAME, column_name, registered_tables};
pub use extra_column::extract;
pub use promoted_column::{Placed, place};
pub use schema_change::{SchemaChange, SchemaChangeKind, SeenType};
pub use sure_type::SureType;
pub use table::{
    Column, GroupBound, Landing, Late, NewColumns, Reference, SourceTable, SystemColumn, Table,
    TableOptions, Truncate, WrittenAs,
};
