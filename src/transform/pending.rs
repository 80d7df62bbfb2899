//! Files that are planned, but can not run yet.

use super::files::SqlError;
use crate::model::{SchemaChange, SourceTable};

/// A file that does not run, because something that it reads is not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingTransform {
    pub result: String,
    /// As in `orders_x.sql:4:8: unknown column channel in orders. ...`.
    pub reason: SqlError,
    /// The column, and the tables that may get it.
    pub(crate) needs: Option<(String, Vec<SourceTable>)>,
    /// A declared column that is likely to be meant by it.
    pub(crate) meant: Option<String>,
}

impl PendingTransform {
    /// Whether it reads a column that is likely to be a slip of the hand.
    pub fn is_slip(&self) -> bool {
        self.meant.is_some()
    }

    /// A file that reads the result of this one, and waits with it.
    pub(crate) fn reader(&self, result: String) -> Self {
        let path = self.reason.path.with_file_name(format!("{result}.sql"));
        let message = format!("needs the result {}, which waits", self.result);
        Self { result, reason: SqlError { path, at: None, message }, needs: None, meant: None }
    }

    /// Whether it may run now that events have shown this column.
    pub(crate) fn may_end(&self, change: &SchemaChange) -> bool {
        self.needs.as_ref().is_some_and(|(column, tables)| {
            tables.contains(&change.source) && is_field_of(&change.column, column)
        })
    }
}

/// A field is a column's if it has the same name, or this in upper case.
fn is_field_of(field: &str, column: &str) -> bool {
    field == column || field == column.to_uppercase()
}
