//! What may be wrong with results although their files are right: said by `tidemark check`.

use std::sync::Arc;

use super::transforms::Transforms;
use crate::model::{LeftOutReason, ResultMode, ResultTable};

/// Why rows of a result may have to be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDoubt<'a> {
    pub result: &'a Arc<ResultTable>,
    pub reason: LeftOutReason,
    /// The key, or the columns of it that can be NULL.
    pub columns: Vec<&'a str>,
}

impl Transforms {
    /// Results in whose queries nothing rules out that rows have the same key, or NULL in it.
    pub fn key_doubts(&self) -> impl Iterator<Item = KeyDoubt<'_>> {
        let keyed = self.views.iter().filter_map(|view| match &view.table().mode {
            ResultMode::Append => None,
            ResultMode::Keyed { key } => Some((view, key)),
        });
        keyed.flat_map(|(view, key)| {
            let (result, proof) = (view.table(), view.proof());
            let doubt = |reason, columns: &[usize]| {
                let names = columns.iter().map(|at| result.schema.field(*at).name().as_str());
                KeyDoubt { result, reason, columns: names.collect() }
            };
            let may_be_null = (!proof.nullable.is_empty())
                .then(|| doubt(LeftOutReason::NullKey, &proof.nullable));
            let may_be_twice = (!proof.is_unique).then(|| doubt(LeftOutReason::DuplicateKey, key));
            may_be_null.into_iter().chain(may_be_twice)
        })
    }

    /// Whether some result needs the current rows of a table, or the versions that these were.
    pub fn needs_rows_of(&self, table: &str) -> bool {
        let is_looked_up = self.temporal_joins.iter().any(|temporal_join| {
            temporal_join.looked_up.name == table || temporal_join.enriched.name == table
        });
        is_looked_up || self.views.iter().any(|view| view.reads_any(&[table]))
    }
}
