//! What a query can read.

use std::sync::Arc;

use crate::model::{Table, TemporalJoin};
use crate::transform::dataflow::KeyedResult;

/// What a query can read and what is known of its key.
#[derive(Clone, Copy)]
pub(crate) struct KnownTables<'a> {
    pub(crate) tables: &'a [Arc<Table>],
    pub(crate) temporal_joins: &'a [Arc<TemporalJoin>],
    pub(crate) results: &'a [KeyedResult],
}

impl KnownTables<'_> {
    /// A source table, or what the state shows of a look-up table.
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        let views = self.temporal_joins.iter().map(|temporal_join| &temporal_join.view);
        self.tables.iter().chain(views).map(|table| &**table).find(|table| table.name == name)
    }

    /// The key of a result.
    pub(super) fn key_of_result(&self, name: &str) -> Option<&[usize]> {
        let result = self.results.iter().find(|result| result.table.name == name);
        result.map(|result| result.key.as_slice())
    }
}
