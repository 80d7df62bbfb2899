//! Rows that ttl has dropped and that come back from the landing table.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use super::enriched::Enriched;
use super::{Missing, StateError, StateStores, Store, missing};
use crate::model::{Changelog, KeyBytes, Position, SystemColumn, Table, TableDelta};

impl StateStores {
    /// All tables, each before the one that it references.
    pub fn children_first(&self) -> impl DoubleEndedIterator<Item = &Arc<Table>> {
        self.stores.iter().rev().map(Store::table)
    }

    /// The rows that a changelog changes and that ttl may have dropped, or rows that reference them.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn missing_changed(&self, changelog: &Changelog) -> Result<Option<Missing>, StateError> {
        let store = self.store_of(changelog);
        if !store.has_dropped() && !self.have_children_dropped(store) {
            return Ok(None);
        }
        missing::changed_rows(store, changelog).map_err(|source| store.error(source))
    }

    /// The rows that those of a changelog reference, before the change or after it, and that ttl may
    /// have dropped.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn missing_parents(&self, changelog: &Changelog) -> Result<Option<Missing>, StateError> {
        let store = self.store_of(changelog);
        let Some(parent) = self.parent(store) else { return Ok(None) };
        missing::referenced_rows(store, parent, changelog).map_err(|source| store.error(source))
    }

    /// The rows that those of a changelog look up, by the table of each, and that ttl may have dropped.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn missing_looked_up(&self, changelog: &Changelog) -> Result<Vec<Missing>, StateError> {
        let of_table = |e: &&Enriched| e.enrichment.enriched.name == changelog.table.name;
        let missing = self.enriched.iter().filter(of_table).map(|enriched| {
            let enrichment = &enriched.enrichment;
            let looked_up = &self.stores[self.by_name[&enrichment.looked_up.name]];
            missing::looked_up_rows(looked_up, &enrichment.columns, changelog)
                .map_err(|source| looked_up.error(source))
        });
        missing.filter_map(Result::transpose).collect()
    }

    /// The rows that a changelog makes anew after they were deleted: ttl may have dropped rows that
    /// reference them.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn made_anew(&self, changelog: &Changelog) -> Result<Option<Missing>, StateError> {
        let store = self.store_of(changelog);
        if !self.have_children_dropped(store) {
            return Ok(None);
        }
        missing::made_anew(store, changelog).map_err(|source| store.error(source))
    }

    fn have_children_dropped(&self, store: &Store) -> bool {
        self.stores.iter().any(|child| {
            let reference = child.table.options.references.as_ref();
            child.has_dropped() && reference.is_some_and(|r| r.table == store.table.name)
        })
    }

    /// Whether ttl has dropped a row of a table.
    pub fn has_dropped(&self, table: &str) -> bool {
        self.store(table).is_some_and(Store::has_dropped)
    }

    /// The key of each row, encoded.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn row_keys(&self, changelog: &Changelog) -> Result<Vec<KeyBytes>, StateError> {
        let store = self.store_of(changelog);
        store.encoded(&changelog.batch).map_err(|source| store.error(source))
    }

    /// Where the newest change of each row's key is, as far as memory knows.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn known_positions(
        &self,
        changelog: &Changelog,
    ) -> Result<Vec<Option<Position>>, StateError> {
        let store = self.store_of(changelog);
        let keys = self.row_keys(changelog)?;
        let known = |key: &KeyBytes| store.entries.get(key).map(|entry| entry.position);
        Ok(keys.iter().map(|key| known(key).max(store.truncated)).collect())
    }

    /// The key of the row that each row references, encoded as [`Self::row_keys`] of that table.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn parent_keys(&self, changelog: &Changelog) -> Result<Vec<KeyBytes>, StateError> {
        let store = self.store_of(changelog);
        let reference = store.table.options.references.as_ref();
        let (Some(parent), Some(reference)) = (self.parent(store), reference) else {
            return Ok(Vec::new());
        };
        let column = Arc::clone(changelog.batch.column(reference.column));
        let keys = parent.keys.encode_columns(&[column]).map_err(|source| store.error(source))?;
        Ok(keys.iter().map(|key| KeyBytes::from(key.as_ref())).collect())
    }

    /// Which rows, read back for changes of table `needed_for`, are in a window of results over both
    /// tables that ttl has dropped rows of.
    pub fn are_forgotten(&self, changelog: &Changelog, needed_for: &str) -> Vec<bool> {
        let store = self.store_of(changelog);
        if store.table.options.event_time.is_none() {
            return vec![false; changelog.len()];
        }
        let shared = self.shared_windows(store, self.windows_of(needed_for));
        (0..changelog.len()).map(|row| store.is_forgotten(changelog, row, &shared)).collect()
    }

    /// Puts rows back into memory, where they stay for a whole ttl; those that are there already, or
    /// were deleted since, stay as they are.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn put_back(&mut self, changelog: Changelog) -> Result<TableDelta, StateError> {
        let now = self.clock().source;
        let store = &mut self.stores[self.by_name[&changelog.table.name]];
        let changelog = changed_now(store, changelog, now).map_err(|source| store.error(source))?;
        Ok(store.fold(changelog)?.delta)
    }

    fn store_of(&self, changelog: &Changelog) -> &Store {
        &self.stores[self.by_name[&changelog.table.name]]
    }
}

impl Store {
    fn encoded(&self, batch: &RecordBatch) -> Result<Vec<KeyBytes>, ArrowError> {
        let keys = self.keys.encode(batch)?;
        Ok(keys.iter().map(|key| KeyBytes::from(key.as_ref())).collect())
    }
}

/// The rows that are not known, as if the source had changed them just now: else ttl would drop them at once.
fn changed_now(
    store: &Store,
    changelog: Changelog,
    now: Option<i64>,
) -> Result<Changelog, ArrowError> {
    let keys = store.keys.encode(&changelog.batch)?;
    let is_known: Vec<bool> =
        keys.iter().map(|key| store.entries.contains_key(key.as_ref())).collect();
    let mut changelog = changelog.without(&is_known);
    if let Some(now) = now {
        let mut columns = changelog.batch.columns().to_vec();
        let times = TimestampMicrosecondArray::from_value(now, changelog.len());
        columns[changelog.table.system_column(SystemColumn::SourceTs)] =
            Arc::new(times) as ArrayRef;
        changelog.batch = RecordBatch::try_new(changelog.batch.schema(), columns)?;
    }
    Ok(changelog)
}

impl Missing {
    /// The keys of some rows.
    ///
    /// # Errors
    /// If Arrow can't filter the batch.
    pub fn keys_where(&self, is_wanted: Vec<bool>) -> Result<RecordBatch, StateError> {
        filter_record_batch(&self.keys, &is_wanted.into())
            .map_err(|source| StateError::Arrow { table: self.table.name.clone(), source })
    }
}
