//! Which events are late: of windows that are closed, or that ttl has dropped rows of.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::model::{Changelog, Offset, Operation, SystemColumn, Table, Window};
use crate::state::error::StateError;
use crate::state::store::{RowPlace, TableStore};
use crate::state::stores::StateStores;

/// Why an event is late.
#[derive(Debug, Clone)]
pub enum Lateness {
    /// All windows over its event time are closed.
    Closed,
    /// Rows of a window that it changes are not in memory, so that nobody can tell its new value.
    Forgotten {
        /// Whose windows they are: the table itself, or one that its row references.
        table: Arc<Table>,
        /// The event time that lies in them; `None`: a row without one.
        event_time: Option<i64>,
    },
}

impl StateStores {
    /// Which rows of a changelog are late, before they are folded. `behind` are the events that were
    /// below the watermark when they came.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn late(
        &self,
        changelog: &Changelog,
        behind: &HashMap<Offset, i64>,
    ) -> Result<Vec<Option<Lateness>>, StateError> {
        let store = self.store_of(changelog);
        let failed = |source| store.error(source);
        let keys = store.encode(&changelog.batch).map_err(failed)?;
        let places: Vec<Option<RowPlace>> =
            keys.iter().map(|key| store.place_of(key.as_ref())).collect();
        let mut late: Vec<Option<Lateness>> = vec![None; changelog.len()];
        if changelog.table.options.event_time.is_some() {
            for (row, lateness) in late.iter_mut().enumerate() {
                *lateness = self.own_lateness(changelog, row, places[row], behind);
            }
        }
        self.mark_forgotten_parents(changelog, &places, &mut late).map_err(failed)?;
        Ok(late)
    }

    fn own_lateness(
        &self,
        changelog: &Changelog,
        row: usize,
        place: Option<RowPlace>,
        behind: &HashMap<Offset, i64>,
    ) -> Option<Lateness> {
        let store = self.store_of(changelog);
        let windows = self.windows(store);
        let new = event_time(changelog, row);
        // What is deleted may carry its key alone.
        let is_delete = changelog.operations[row] == Operation::Delete;
        let new_time = (!is_delete || new.is_some()).then_some(new);
        let old_time = place.map(|place| store.event_time(place));
        let forgotten = new_time.into_iter().chain(old_time);
        let mut forgotten = forgotten.filter(|time| store.dropped_times().touches(*time, windows));
        if let Some(event_time) = forgotten.next() {
            return Some(Lateness::Forgotten { table: Arc::clone(store.table()), event_time });
        }
        let (time, watermark) = (new?, behind.get(&changelog.offsets[row])?);
        let is_closed = windows.iter().all(|window| window.end(time) <= *watermark);
        is_closed.then_some(Lateness::Closed)
    }

    /// A change of an item changes the windows that its order is in.
    fn mark_forgotten_parents(
        &self,
        changelog: &Changelog,
        places: &[Option<RowPlace>],
        late: &mut [Option<Lateness>],
    ) -> Result<(), ArrowError> {
        let store = self.store_of(changelog);
        let Some(reference) = &store.table().options.references else { return Ok(()) };
        let new = Arc::clone(changelog.batch.column(reference.column));
        let windows = self.windows(store);
        for row in 0..changelog.len() {
            if late[row].as_ref().is_some_and(Lateness::is_forgotten) {
                continue;
            }
            let old = places[row].map(|place| store.cell(place, reference.column));
            for parent in [Some(new.slice(row, 1)), old].into_iter().flatten() {
                if let Some(forgotten) = self.forgotten_parent(store, &parent, windows)? {
                    late[row] = Some(forgotten);
                }
            }
        }
        Ok(())
    }

    /// Follows a reference up through the rows in memory. Only windows of results that read all of the
    /// tables on the way count.
    fn forgotten_parent(
        &self,
        store: &TableStore,
        key: &ArrayRef,
        windows: &[Window],
    ) -> Result<Option<Lateness>, ArrowError> {
        let Some(parent) = self.parent(store) else { return Ok(None) };
        let shared = self.shared_windows(parent, windows);
        if shared.is_empty() || key.is_null(0) {
            return Ok(None);
        }
        let key = parent.encode_columns(std::slice::from_ref(key))?;
        let Some(place) = parent.place_of(key.row(0).as_ref()) else { return Ok(None) };
        let event_time = parent.event_time(place);
        let has_event_time = parent.table().options.event_time.is_some();
        if has_event_time && parent.dropped_times().touches(event_time, &shared) {
            let table = Arc::clone(parent.table());
            return Ok(Some(Lateness::Forgotten { table, event_time }));
        }
        match &parent.table().options.references {
            Some(up) => self.forgotten_parent(parent, &parent.cell(place, up.column), &shared),
            None => Ok(None),
        }
    }

    pub(in crate::state) fn parent(&self, store: &TableStore) -> Option<&TableStore> {
        let reference = store.table().options.references.as_ref()?;
        // A row that references its own table is not followed: it might come back to itself.
        (reference.table != store.table().name)
            .then(|| &self.stores[self.by_name[&reference.table]])
    }

    fn windows(&self, store: &TableStore) -> &[Window] {
        self.windows_of(&store.table().name)
    }

    pub(in crate::state) fn windows_of(&self, table: &str) -> &[Window] {
        self.windows.get(table).map_or(&[], Vec::as_slice)
    }

    /// Those of `windows` that are also over the rows of `store`.
    pub(in crate::state) fn shared_windows(
        &self,
        store: &TableStore,
        windows: &[Window],
    ) -> Vec<Window> {
        let own = self.windows(store);
        windows.iter().filter(|window| own.contains(window)).copied().collect()
    }
}

impl Lateness {
    pub fn is_forgotten(&self) -> bool {
        matches!(self, Self::Forgotten { .. })
    }
}

/// The event time of each row.
pub(in crate::state) fn event_times(
    changelog: &Changelog,
) -> impl Iterator<Item = Option<i64>> + '_ {
    (0..changelog.len()).map(|row| event_time(changelog, row))
}

fn event_time(changelog: &Changelog, row: usize) -> Option<i64> {
    let column = changelog.batch.column(changelog.table.system_column(SystemColumn::EventTime));
    let times = column.as_any().downcast_ref::<TimestampMicrosecondArray>()?;
    times.is_valid(row).then(|| times.value(row))
}
