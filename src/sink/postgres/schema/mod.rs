//! Tables and columns as the catalog has them, and the DDL that makes and alters them.

pub(super) mod alter;
pub(super) mod catalog;
pub(super) mod check_constraints;
pub(super) mod column_types;
pub(super) mod create;
pub(super) mod landing_columns;
pub(super) mod made_at_start;
pub(super) mod migrations;
pub(super) mod numeric;
pub(super) mod relation;
pub(super) mod sql_files;
pub(super) mod system_tables;
pub(super) mod text_rules;
pub(super) mod wire_format;
