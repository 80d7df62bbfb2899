use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use hashbrown::{HashMap, HashSet};

use super::chains::Chains;
use super::{Enriched, Stores};
use crate::model::{Changelog, Enrichment, KeyBytes, Table, TableDelta};
use crate::state::{StateError, StateStores, Store};

impl StateStores {
    /// Keeps what rows of a table show of another one from now on. What is there already is given to
    /// [`Self::look_up_landed`], as inserted.
    ///
    /// # Errors
    /// If the key of a version can't be encoded.
    pub fn enrich(&mut self, enrichment: &Arc<Enrichment>) -> Result<(), StateError> {
        self.enriched.push(Enriched::new(Arc::clone(enrichment))?);
        Ok(())
    }

    /// The keys of looked-up tables, by table, of which memory does not know what was when the rows of
    /// `deltas` changed: these are to be read from the landing tables, whole, for [`Self::look_up_landed`].
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub fn doubtful(&self, deltas: &[TableDelta]) -> Result<Vec<KeysOf>, StateError> {
        let mut doubtful: Vec<KeysOf> = Vec::new();
        let mut known: HashMap<String, HashSet<KeyBytes>> = HashMap::new();
        for enriched in &self.enriched {
            let stores = self.stores_of(&enriched.enrichment);
            let of_table = known.entry(stores.1.table.name.clone()).or_default();
            let deltas = deltas.iter().filter(|delta| delta.table == stores.0.table.name);
            for rows in deltas.flat_map(|delta| [&delta.after, &delta.inserted]) {
                let keys = enriched.doubtful(stores, rows, of_table);
                let keys = keys.map_err(|source| stores.1.error(source))?;
                if keys.num_rows() > 0 {
                    doubtful.push((Arc::clone(&stores.1.table), keys));
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
        let before = std::mem::take(&mut self.before);
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
        tell: impl Fn(&mut Chains<'_>, &str) -> Result<(), ArrowError>,
    ) -> Result<Vec<TableDelta>, StateError> {
        let mut all = std::mem::take(&mut self.enriched);
        let mut views = Vec::new();
        for enriched in &mut all {
            let stores = self.stores_of(&enriched.enrichment);
            let mut chains = Chains::new(stores.1);
            let told = tell(&mut chains, &stores.1.table.name);
            told.map_err(|source| stores.1.error(source))?;
            let delta = enriched.follow(stores, deltas, &chains)?;
            views.extend((!delta.is_empty()).then_some(delta));
        }
        self.enriched = all;
        Ok(views)
    }

    /// Keeps how rows are that an epoch is about to change, if they are looked up.
    pub(in crate::state) fn note_before(
        &mut self,
        changelog: &Changelog,
    ) -> Result<(), StateError> {
        let name = &changelog.table.name;
        if !self.enriched.iter().any(|e| e.enrichment.looked_up.name == *name) {
            return Ok(());
        }
        let store = &self.stores[self.by_name[name]];
        let before = self.before.entry(name.clone()).or_default();
        before.note(store, changelog).map_err(|source| store.error(source))
    }

    fn stores_of(&self, enrichment: &Enrichment) -> Stores<'_> {
        let store = |name: &str| &self.stores[self.by_name[name]];
        (store(&enrichment.enriched.name), store(&enrichment.looked_up.name))
    }

    pub(in crate::state) fn view(&self, name: &str) -> Option<(&Enriched, &Store)> {
        let enriched = self.enriched.iter().find(|e| e.enrichment.view.name == name)?;
        Some((enriched, self.stores_of(&enriched.enrichment).0))
    }

    /// Of each view: its name, rows that show a version or wait for one, different versions, bytes.
    pub fn views(&self) -> impl Iterator<Item = (&str, usize, usize, usize)> {
        self.enriched.iter().map(|enriched| {
            let (rows, versions, bytes) = enriched.size();
            (enriched.enrichment.view.name.as_str(), rows, versions, bytes)
        })
    }

    /// The rows of a table as if they had just come, in parts of at most `rows`.
    ///
    /// # Errors
    /// If Arrow can't filter a batch.
    pub fn parts(&self, table: &str, rows: usize) -> Result<Vec<TableDelta>, StateError> {
        let Some(store) = self.store(table) else { return Ok(Vec::new()) };
        let none = || RecordBatch::new_empty(Arc::clone(&store.schema));
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
