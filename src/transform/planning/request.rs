//! What a folder of transforms is planned against.

use std::sync::Arc;

use crate::model::{SchemaChange, Table};
use crate::transform::files::SqlFile;

/// The files to plan, and all that their plans depend on.
#[derive(Debug, Clone, Copy)]
pub struct PlanRequest<'a> {
    pub tables: &'a [Arc<Table>],
    pub files: &'a [SqlFile],
    /// The columns that events have shown.
    pub registry: &'a [SchemaChange],
    pub undeclared: UndeclaredNames,
}

impl<'a> PlanRequest<'a> {
    /// Files that may read what is declared, and nothing else.
    pub fn new(tables: &'a [Arc<Table>], files: &'a [SqlFile]) -> Self {
        Self { tables, files, registry: &[], undeclared: UndeclaredNames::Refused }
    }
}

/// What becomes of a file that reads something which no file declares and no event has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndeclaredNames {
    /// It is wrong.
    Refused,
    /// It waits for a column of a table that is there, and so do those that read its result.
    ColumnsWait,
    /// It waits for a table as well.
    ColumnsAndTablesWait,
}
