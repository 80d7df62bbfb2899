//! Source tables and their columns: those that files declare, and those that events show.

mod discovered_tables;
mod extra_column;
mod field_type;
mod json_fields;
mod json_number;
pub mod landing_columns;
mod promoted_column;
mod schema_change;
mod sql_type;
mod sure_type;
mod table;

pub use discovered_tables::{CHANGE_ID, MAX_KEY_COLUMNS, discovered_tables};
pub use extra_column::extract;
pub use field_type::FieldType;
pub use landing_columns::{MAX_NAME, column_name};
pub use promoted_column::{PromotedColumn, take_out_promoted};
pub use schema_change::{SchemaChange, SchemaChangeKind, SeenType};
pub use sql_type::{sql_type, with_sql_types};
pub use sure_type::SureType;
pub use table::{
    Column, GroupBound, Landing, Late, LearnedColumns, NewColumns, Reference, SourceTable,
    SystemColumn, Table, TableOptions, TableOrigin, Truncate, WrittenAs,
};
