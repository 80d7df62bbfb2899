//! What is known of the keys of a changelog, wherever it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::ArrayRef;

use super::error::StateError;
use super::store::TableStore;
use super::stores::StateStores;
use crate::model::{Changelog, KeyBytes, Position, TableDelta};

/// How long a start reads rows that may be needed soon.
const WARMED_WITHIN: Duration = Duration::from_millis(300);

impl StateStores {
    /// Brings into memory what is known of the keys that an epoch is about to change; how many rows came back, by
    /// table. To be called before anything is asked about them.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn recall(&mut self, changes: &[Changelog]) -> Result<Vec<(String, usize)>, StateError> {
        let mut recalled = Vec::new();
        for changelog in changes {
            let name = &changelog.table.name;
            let store = &mut self.stores[self.by_name[name]];
            let before = store.len();
            store.recall(changelog)?;
            if store.len() > before {
                recalled.push((name.clone(), store.len() - before));
            }
        }
        Ok(recalled)
    }

    /// Brings rows into memory that a start has found on disk: all of those that are kept in memory, and of the others the
    /// last ones by key, as long as memory is not half full and it takes no longer than [`WARMED_WITHIN`].
    pub(super) fn warm(&mut self) -> Result<(), StateError> {
        for at in 0..self.stores.len() {
            if self.resident.contains(&self.stores[at].table().name) {
                self.stores[at].warm(usize::MAX, || true)?;
            }
        }
        let begun = Instant::now();
        for at in 0..self.stores.len() {
            let used: usize = self.stores.iter().map(TableStore::memory).sum();
            let limit = self.memory_limit.map_or(usize::MAX, |limit| limit.0 as usize / 2);
            let others = self.stores.len() - at;
            let own = self.stores[at].table().options.memory_limit;
            let own = own.map_or(usize::MAX, |limit| limit.0 as usize / 2);
            let end = WARMED_WITHIN * (at as u32 + 1) / self.stores.len() as u32;
            let bytes = own.min(limit.saturating_sub(used) / others);
            self.stores[at].warm(bytes, || begun.elapsed() < end)?;
        }
        Ok(())
    }

    /// The same for the keys that changed rows look up in other tables.
    pub(super) fn recall_looked_up(&mut self, deltas: &[TableDelta]) -> Result<(), StateError> {
        for at in 0..self.joins.len() {
            let join = Arc::clone(&self.joins[at].join);
            let looked_up = self.by_name[&join.looked_up.name];
            let deltas = deltas.iter().filter(|delta| delta.table == join.enriched.name);
            for rows in deltas.flat_map(|delta| [&delta.after, &delta.inserted]) {
                let key: Vec<ArrayRef> =
                    join.columns.iter().map(|at| Arc::clone(rows.column(*at))).collect();
                self.stores[looked_up].recall_columns(&key)?;
            }
        }
        Ok(())
    }

    /// The key of each row, encoded.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn row_keys(&self, changelog: &Changelog) -> Result<Vec<KeyBytes>, StateError> {
        let store = self.store_of(changelog);
        let keys = store.encode(&changelog.batch).map_err(|source| store.error(source))?;
        Ok(keys.iter().map(|key| KeyBytes::from(key.as_ref())).collect())
    }

    /// Where the newest change of each row's key is, after [`Self::recall`].
    ///
    /// # Errors
    /// As [`Self::row_keys`].
    pub fn known_positions(
        &self,
        changelog: &Changelog,
    ) -> Result<Vec<Option<Position>>, StateError> {
        let store = self.store_of(changelog);
        let keys = self.row_keys(changelog)?;
        Ok(keys.iter().map(|key| store.newest_of(store.entry(key))).collect())
    }
}
