//! What may be wrong with results although their files are right: said by `tidemark check`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::transforms::Transforms;
use super::views::{MaintainedView, Maintenance};
use crate::model::{LeftOutReason, ResultMode, ResultTable, Table};

/// Why rows of a result may have to be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDoubt<'a> {
    pub result: &'a Arc<ResultTable>,
    pub reason: LeftOutReason,
    /// The key, or the columns of it that can be NULL.
    pub columns: Vec<&'a str>,
}

/// Why a result may be wrong once ttl has dropped rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TtlDoubt<'a> {
    pub table: &'a Arc<Table>,
    pub result: &'a Arc<ResultTable>,
    /// Tables whose changes don't reach the dropped rows. Without any, the rows are missing in groups that no window closes.
    pub joined: Vec<&'a str>,
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

    /// Maintained results that read a table whose rows ttl drops, and need them afterwards.
    pub fn ttl_doubts(&self) -> Vec<TtlDoubt<'_>> {
        let mut doubts = Vec::new();
        for view in self.views.iter().filter(|view| *view.maintenance() != Maintenance::Append) {
            let sources = self.sources(view);
            let dropped = sources.iter().filter(|table| table.options.ttl.is_some());
            for table in dropped {
                let family = self.family(table);
                let others = sources.iter().filter(|other| !family.contains(other.name.as_str()));
                let joined: Vec<&str> = others.map(|other| other.name.as_str()).collect();
                let is_closed = table.options.event_time.is_some() && self.is_windowed(view);
                if !joined.is_empty() || !(is_closed || self.is_by_row(view)) {
                    doubts.push(TtlDoubt { table, result: view.table(), joined });
                }
            }
        }
        doubts
    }

    /// Whether some result needs the current rows of a table, or the versions that these were.
    pub fn needs_rows_of(&self, table: &str) -> bool {
        let is_looked_up = self.temporal_joins.iter().any(|temporal_join| {
            temporal_join.looked_up.name == table || temporal_join.enriched.name == table
        });
        is_looked_up || self.views.iter().any(|view| view.reads_any(&[table]))
    }

    /// The source tables of a view, of itself and by way of results.
    fn sources(&self, view: &MaintainedView) -> Vec<&Arc<Table>> {
        let mut names: BTreeSet<&str> = view.reads().collect();
        for earlier in self.views.iter().rev() {
            if names.contains(earlier.table().name.as_str()) {
                names.extend(earlier.reads());
            }
        }
        self.tables.iter().filter(|table| names.contains(table.name.as_str())).collect()
    }

    /// The table, those that it lives by, and those that live by it: changes of these bring its rows back.
    fn family(&self, table: &Table) -> BTreeSet<&str> {
        let own = self.tables.iter().find(|other| other.name == table.name);
        let mut family: BTreeSet<&str> = own.map(|own| own.name.as_str()).into_iter().collect();
        loop {
            let before = family.len();
            for other in &self.tables {
                let Some(reference) = &other.options.references else { continue };
                let parent = self.tables.iter().find(|parent| parent.name == reference.table);
                let Some(parent) = parent else { continue };
                if family.contains(parent.name.as_str()) || family.contains(other.name.as_str()) {
                    family.extend([parent.name.as_str(), other.name.as_str()]);
                }
            }
            if family.len() == before {
                return family;
            }
        }
    }

    /// The view and the results that it reads, each after those that read it.
    fn chain(&self, view: &MaintainedView) -> Vec<&MaintainedView> {
        let mut names: BTreeSet<String> = BTreeSet::from([view.table().name.clone()]);
        let mut chain = Vec::new();
        for earlier in self.views.iter().rev() {
            if names.contains(&earlier.table().name) {
                names.extend(earlier.reads().map(str::to_owned));
                chain.push(earlier);
            }
        }
        chain
    }

    /// Each of its rows is made of a row of each table.
    fn is_by_row(&self, view: &MaintainedView) -> bool {
        let is_by_row = |view: &&MaintainedView| {
            matches!(view.maintenance(), Maintenance::ByKey { .. } | Maintenance::Append)
        };
        self.chain(view).iter().all(is_by_row)
    }

    /// Rows are put together in windows alone.
    fn is_windowed(&self, view: &MaintainedView) -> bool {
        let is_windowed = |view: &&MaintainedView| match view.maintenance() {
            Maintenance::ByGroup { .. } => view.windows().next().is_some(),
            Maintenance::ByKey { .. } | Maintenance::Append => true,
            Maintenance::Recompute { .. } => false,
        };
        self.chain(view).iter().all(is_windowed)
    }
}
