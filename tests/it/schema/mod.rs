//! Source tables that change: columns and tables that no file declares, types that widen.

mod new_columns;
mod schema_drift;
mod undeclared_columns;
mod unknown_tables;
mod widening;
