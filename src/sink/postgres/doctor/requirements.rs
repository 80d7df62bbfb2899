//! What a processor needs of its database.

use std::sync::Arc;

use crate::model::{ResultTable, Table};

/// What the processor will use.
pub struct Requirements<'a> {
    pub tables: &'a [Arc<Table>],
    pub results: &'a [Arc<ResultTable>],
    /// Name and text of each file of `sql/ods`.
    pub ods: &'a [(String, String)],
}
