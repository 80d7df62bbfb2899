//! Rows that ttl has dropped and that come back from the landing table.

mod missing_rows;

pub use missing_rows::MissingRows;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use crate::model::{Changelog, KeyBytes, Position, SystemColumn, Table, TableDelta};
use crate::state::error::StateError;
use crate::state::late_events::event_times;
use crate::state::store::TableStore;
use crate::state::stores::StateStores;
use crate::state::temporal_join::JoinedView;

impl StateStores {
    /// All tables, each before the one that it references.
    pub fn children_first(&self) -> impl DoubleEndedIterator<Item = &Arc<Table>> {
        self.stores.iter().rev().map(TableStore::table)
    }

    /// The rows that a changelog changes and that ttl may have dropped, or rows that reference them.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn missing_changed(
        &self,
        changelog: &Changelog,
    ) -> Result<Option<MissingRows>, StateError> {
        let store = self.store_of(changelog);
        if !store.has_dropped() && !self.have_children_dropped(store) {
            return Ok(None);
        }
        missing_rows::changed_rows(store, changelog).map_err(|source| store.error(source))
    }

    /// The rows that those of a changelog reference, before the change or after it, and that ttl may
    /// have dropped.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn missing_parents(
        &self,
        changelog: &Changelog,
    ) -> Result<Option<MissingRows>, StateError> {
        let store = self.store_of(changelog);
        let Some(parent) = self.parent(store) else { return Ok(None) };
        missing_rows::referenced_rows(store, parent, changelog)
            .map_err(|source| store.error(source))
    }

    /// The rows that those of a changelog look up, by the table of each, and that ttl may have dropped.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn missing_looked_up(&self, changelog: &Changelog) -> Result<Vec<MissingRows>, StateError> {
        let of_table = |view: &&JoinedView| view.join.enriched.name == changelog.table.name;
        let missing = self.joins.iter().filter(of_table).map(|view| {
            let looked_up = &self.stores[self.by_name[&view.join.looked_up.name]];
            missing_rows::looked_up_rows(looked_up, &view.join.columns, changelog)
                .map_err(|source| looked_up.error(source))
        });
        missing.filter_map(Result::transpose).collect()
    }

    /// The rows that a changelog makes anew after they were deleted: ttl may have dropped rows that
    /// reference them.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn made_anew(&self, changelog: &Changelog) -> Result<Option<MissingRows>, StateError> {
        let store = self.store_of(changelog);
        if !self.have_children_dropped(store) {
            return Ok(None);
        }
        missing_rows::made_anew(store, changelog).map_err(|source| store.error(source))
    }

    fn have_children_dropped(&self, store: &TableStore) -> bool {
        self.stores.iter().any(|child| {
            let reference = child.table().options.references.as_ref();
            child.has_dropped() && reference.is_some_and(|r| r.table == store.table().name)
        })
    }

    /// Whether ttl has dropped a row of a table.
    pub fn has_dropped(&self, table: &str) -> bool {
        self.store(table).is_some_and(TableStore::has_dropped)
    }

    /// The key of each row, encoded.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn row_keys(&self, changelog: &Changelog) -> Result<Vec<KeyBytes>, StateError> {
        let store = self.store_of(changelog);
        let keys = store.encode(&changelog.batch).map_err(|source| store.error(source))?;
        Ok(keys.iter().map(|key| KeyBytes::from(key.as_ref())).collect())
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
        Ok(keys.iter().map(|key| store.newest_of(store.entry(key))).collect())
    }

    /// The key of the row that each row references, encoded as [`Self::row_keys`] of that table.
    ///
    /// # Errors
    /// As [`Self::missing_changed`].
    pub fn parent_keys(&self, changelog: &Changelog) -> Result<Vec<KeyBytes>, StateError> {
        let store = self.store_of(changelog);
        let reference = store.table().options.references.as_ref();
        let (Some(parent), Some(reference)) = (self.parent(store), reference) else {
            return Ok(Vec::new());
        };
        let column = Arc::clone(changelog.batch.column(reference.column));
        let keys = parent.encode_columns(&[column]).map_err(|source| store.error(source))?;
        Ok(keys.iter().map(|key| KeyBytes::from(key.as_ref())).collect())
    }

    /// Which rows, read back for changes of table `needed_for`, are in a window of results over both
    /// tables that ttl has dropped rows of.
    pub fn are_forgotten(&self, changelog: &Changelog, needed_for: &str) -> Vec<bool> {
        let store = self.store_of(changelog);
        if store.table().options.event_time.is_none() {
            return vec![false; changelog.len()];
        }
        let shared = self.shared_windows(store, self.windows_of(needed_for));
        event_times(changelog).map(|time| store.dropped_times().touches(time, &shared)).collect()
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
}

/// The rows that are not known, as if the source had changed them just now: else ttl would drop them at once.
fn changed_now(
    store: &TableStore,
    changelog: Changelog,
    now: Option<i64>,
) -> Result<Changelog, ArrowError> {
    let keys = store.encode(&changelog.batch)?;
    let is_known: Vec<bool> = keys.iter().map(|key| store.entry(key.as_ref()).is_some()).collect();
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

impl MissingRows {
    /// The keys of some rows.
    ///
    /// # Errors
    /// If Arrow can't filter the batch.
    pub fn keys_where(&self, is_wanted: Vec<bool>) -> Result<RecordBatch, StateError> {
        filter_record_batch(&self.keys, &is_wanted.into())
            .map_err(|source| StateError::Arrow { table: self.table.name.clone(), source })
    }
}
