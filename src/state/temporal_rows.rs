//! What the state does about temporal joins.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use hashbrown::{HashMap, HashSet};

use crate::model::{Changelog, KeyBytes, Table, TableDelta, TemporalJoin};
use crate::state::error::StateError;
use crate::state::store::TableStore;
use crate::state::stores::StateStores;
use crate::state::temporal_join::{JoinedView, VersionChains};

impl StateStores {
    /// Keeps what rows of a table show of another one from now on. What is there already is given to
    /// [`Self::look_up_landed`], as inserted.
    ///
    /// # Errors
    /// If the key of a version can't be encoded.
    pub fn add_temporal_join(&mut self, join: &Arc<TemporalJoin>) -> Result<(), StateError> {
        self.joins.push(JoinedView::new(Arc::clone(join))?);
        Ok(())
    }

    /// The keys of looked-up tables, by table, of which memory does not know what was when the rows of
    /// `deltas` changed: these are to be read from the landing tables, whole, for [`Self::look_up_landed`].
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub fn doubtful(&mut self, deltas: &[TableDelta]) -> Result<Vec<KeysOf>, StateError> {
        self.recall_looked_up(deltas)?;
        let mut doubtful: Vec<KeysOf> = Vec::new();
        let mut known: HashMap<String, HashSet<KeyBytes>> = HashMap::new();
        for view in &self.joins {
            let (enriched, looked_up) = self.sides(&view.join);
            let of_table = known.entry(looked_up.table().name.clone()).or_default();
            let deltas = deltas.iter().filter(|delta| delta.table == enriched.table().name);
            for rows in deltas.flat_map(|delta| [&delta.after, &delta.inserted]) {
                let keys = view
                    .doubtful(enriched, looked_up, rows, of_table)
                    .map_err(|source| looked_up.error(source))?;
                if keys.num_rows() > 0 {
                    doubtful.push((Arc::clone(looked_up.table()), keys));
                }
            }
        }
        merged(doubtful)
    }

    /// Follows changes of enriched rows and of what they look up; how the views differ.
    /// `changes` are the epoch's as they were folded.
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub fn look_up(
        &mut self,
        deltas: &[TableDelta],
        changes: &[Changelog],
    ) -> Result<Vec<TableDelta>, StateError> {
        let before = std::mem::take(&mut self.rows_before);
        self.look_up_by(deltas, |chains, table| chains.follow(changes, before.get(table)))
    }

    /// The same for rows that come into memory with positions of their own; `history` is all that is
    /// landed of what is [`Self::doubtful`].
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub fn look_up_landed(
        &mut self,
        deltas: &[TableDelta],
        history: &[Changelog],
    ) -> Result<Vec<TableDelta>, StateError> {
        self.look_up_by(deltas, |chains, _| chains.take_history(history))
    }

    fn look_up_by(
        &mut self,
        deltas: &[TableDelta],
        tell: impl Fn(&mut VersionChains<'_>, &str) -> Result<(), ArrowError>,
    ) -> Result<Vec<TableDelta>, StateError> {
        self.recall_looked_up(deltas)?;
        let mut joins = std::mem::take(&mut self.joins);
        let mut views = Vec::new();
        for view in &mut joins {
            let (enriched, looked_up) = self.sides(&view.join);
            let mut chains = VersionChains::new(looked_up);
            tell(&mut chains, &looked_up.table().name).map_err(|source| looked_up.error(source))?;
            let delta = view.follow(enriched, deltas, &chains)?;
            views.extend((!delta.is_empty()).then_some(delta));
        }
        self.joins = joins;
        Ok(views)
    }

    /// Keeps how rows are that an epoch is about to change, if they are looked up.
    pub(in crate::state) fn note_before(
        &mut self,
        changelog: &Changelog,
    ) -> Result<(), StateError> {
        let name = &changelog.table.name;
        if !self.joins.iter().any(|view| view.join.looked_up.name == *name) {
            return Ok(());
        }
        let store = &self.stores[self.by_name[name]];
        let before = self.rows_before.entry(name.clone()).or_default();
        before.note(store, changelog).map_err(|source| store.error(source))
    }

    /// The stores of the enriched table and of the looked-up one.
    fn sides(&self, join: &TemporalJoin) -> (&TableStore, &TableStore) {
        let store = |name: &str| &self.stores[self.by_name[name]];
        (store(&join.enriched.name), store(&join.looked_up.name))
    }

    pub(in crate::state) fn view(&self, name: &str) -> Option<(&JoinedView, &TableStore)> {
        let view = self.joins.iter().find(|view| view.join.view.name == name)?;
        Some((view, self.sides(&view.join).0))
    }

    /// Of each view: its name, rows that show a version or wait for one, different versions, bytes.
    pub fn views(&self) -> impl Iterator<Item = (&str, usize, usize, usize)> {
        self.joins.iter().map(|view| {
            let (rows, versions, bytes) = view.size();
            (view.join.view.name.as_str(), rows, versions, bytes)
        })
    }

    /// The rows of a table as if they had just come, in parts of at most `rows`.
    ///
    /// # Errors
    /// If Arrow can't filter a batch.
    pub fn parts(&self, table: &str, rows: usize) -> Result<Vec<TableDelta>, StateError> {
        let Some(store) = self.store(table) else { return Ok(Vec::new()) };
        let none = || RecordBatch::new_empty(Arc::clone(store.schema()));
        let mut parts = Vec::new();
        for batch in store.rows()? {
            for from in (0..batch.num_rows()).step_by(rows) {
                let inserted = batch.slice(from, rows.min(batch.num_rows() - from));
                let (before, after, deleted, table) = (none(), none(), none(), table.to_owned());
                parts.push(TableDelta { table, before, after, inserted, deleted });
            }
        }
        Ok(parts)
    }
}

/// Keys of a table.
pub type KeysOf = (Arc<Table>, RecordBatch);

/// One batch per table.
fn merged(parts: Vec<KeysOf>) -> Result<Vec<KeysOf>, StateError> {
    let mut merged: Vec<KeysOf> = Vec::new();
    for (table, keys) in parts {
        match merged.iter_mut().find(|(other, _)| other.name == table.name) {
            None => merged.push((table, keys)),
            Some((_, all)) => {
                let both = concat_batches(&all.schema(), [&*all, &keys]);
                *all =
                    both.map_err(|source| StateError::Arrow { table: table.name.clone(), source })?;
            }
        }
    }
    Ok(merged)
}
