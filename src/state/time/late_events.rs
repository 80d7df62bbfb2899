//! Which events are late: of windows that are closed, or that ttl has dropped rows of.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use super::store::Place;
use super::{StateError, StateStores, Store};
use crate::model::{Changelog, Offset, Operation, SystemColumn, Table, Window};

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

/// Event times of the rows that ttl has dropped from a table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Forgotten {
    newest: Option<i64>,
    /// Rows without an event time.
    has_timeless: bool,
}

impl Forgotten {
    pub(super) fn note(&mut self, event_time: Option<i64>) {
        self.newest = self.newest.max(event_time);
        self.has_timeless |= event_time.is_none();
    }

    /// Whether a window that the time is in may have lost rows.
    fn touches(&self, event_time: Option<i64>, windows: &[Window]) -> bool {
        if windows.is_empty() {
            return false;
        }
        match (event_time, self.newest) {
            (None, _) => self.has_timeless,
            (Some(_), None) => false,
            // One window after the other: a longer one may be over what a shorter one gives.
            (Some(time), Some(newest)) => {
                let start = |time: i64, window: &Window| time.min(window.start(time));
                windows.iter().fold(time, start) <= newest
            }
        }
    }
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
        let store = &self.stores[self.by_name[&changelog.table.name]];
        let failed = |source| store.error(source);
        let keys = store.keys.encode(&changelog.batch).map_err(failed)?;
        let places: Vec<Option<Place>> = keys
            .iter()
            .map(|key| store.entries.get(key.as_ref()).and_then(|entry| store.place(entry)))
            .collect();
        let mut late: Vec<Option<Lateness>> = vec![None; changelog.len()];
        if changelog.table.options.event_time.is_some() {
            for (row, lateness) in late.iter_mut().enumerate() {
                *lateness = self.own_lateness(store, (changelog, row), places[row], behind);
            }
        }
        self.mark_forgotten_parents(store, changelog, (&places, &mut late)).map_err(failed)?;
        Ok(late)
    }

    fn own_lateness(
        &self,
        store: &Store,
        (changelog, row): (&Changelog, usize),
        place: Option<Place>,
        behind: &HashMap<Offset, i64>,
    ) -> Option<Lateness> {
        let windows = self.windows(store);
        let new = changelog_time(changelog, row);
        // What is deleted may carry its key alone.
        let is_delete = changelog.operations[row] == Operation::Delete;
        let new_time = (!is_delete || new.is_some()).then_some(new);
        let old_time = place.map(|place| store.event_time(place));
        let forgotten = new_time.into_iter().chain(old_time);
        let mut forgotten = forgotten.filter(|time| store.forgotten.touches(*time, windows));
        if let Some(event_time) = forgotten.next() {
            return Some(Lateness::Forgotten { table: Arc::clone(&store.table), event_time });
        }
        let (time, watermark) = (new?, behind.get(&changelog.offsets[row])?);
        let is_closed = windows.iter().all(|window| window.end(time) <= *watermark);
        is_closed.then_some(Lateness::Closed)
    }

    /// A change of an item changes the windows that its order is in.
    fn mark_forgotten_parents(
        &self,
        store: &Store,
        changelog: &Changelog,
        (places, late): (&[Option<Place>], &mut [Option<Lateness>]),
    ) -> Result<(), ArrowError> {
        let Some(reference) = &store.table.options.references else { return Ok(()) };
        let new = Arc::clone(changelog.batch.column(reference.column));
        let windows = self.windows(store);
        for row in 0..changelog.len() {
            if late[row].as_ref().is_some_and(Lateness::is_forgotten) {
                continue;
            }
            let old = places[row].map(|place| store.cell(place, reference.column));
            for parent in [Some(new.slice(row, 1)), old].into_iter().flatten() {
                if let Some(forgotten) = self.forgotten_parent(store, (parent, windows))? {
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
        store: &Store,
        (key, windows): (ArrayRef, &[Window]),
    ) -> Result<Option<Lateness>, ArrowError> {
        let Some(parent) = self.parent(store) else { return Ok(None) };
        let shared = self.shared_windows(parent, windows);
        if shared.is_empty() || key.is_null(0) {
            return Ok(None);
        }
        let key = parent.keys.encode_columns(&[key])?;
        let entry = parent.entries.get(key.row(0).as_ref());
        let Some(place) = entry.and_then(|entry| parent.place(entry)) else { return Ok(None) };
        let event_time = parent.event_time(place);
        let has_event_time = parent.table.options.event_time.is_some();
        if has_event_time && parent.forgotten.touches(event_time, &shared) {
            let table = Arc::clone(&parent.table);
            return Ok(Some(Lateness::Forgotten { table, event_time }));
        }
        match &parent.table.options.references {
            Some(up) => self.forgotten_parent(parent, (parent.cell(place, up.column), &shared)),
            None => Ok(None),
        }
    }

    pub(super) fn parent(&self, store: &Store) -> Option<&Store> {
        let reference = store.table.options.references.as_ref()?;
        // A row that references its own table is not followed: it might come back to itself.
        (reference.table != store.table.name).then(|| &self.stores[self.by_name[&reference.table]])
    }

    fn windows(&self, store: &Store) -> &[Window] {
        self.windows_of(&store.table.name)
    }

    pub(super) fn windows_of(&self, table: &str) -> &[Window] {
        self.windows.get(table).map_or(&[], Vec::as_slice)
    }

    /// Those of `windows` that are also over the rows of `store`.
    pub(super) fn shared_windows(&self, store: &Store, windows: &[Window]) -> Vec<Window> {
        let own = self.windows(store);
        windows.iter().filter(|window| own.contains(window)).copied().collect()
    }
}

impl Lateness {
    pub fn is_forgotten(&self) -> bool {
        matches!(self, Self::Forgotten { .. })
    }
}

impl Store {
    /// The event time of a row in memory; `None` if it has none.
    pub(super) fn event_time(&self, place: Place) -> Option<i64> {
        let column = self.table.options.event_time?;
        let column = self.segments[place.segment()].batch.column(column);
        time_at(column, place.row())
    }

    pub(super) fn is_forgotten(
        &self,
        changelog: &Changelog,
        row: usize,
        windows: &[Window],
    ) -> bool {
        self.forgotten.touches(changelog_time(changelog, row), windows)
    }

    fn cell(&self, place: Place, column: usize) -> ArrayRef {
        self.segments[place.segment()].batch.column(column).slice(place.row(), 1)
    }
}

fn changelog_time(changelog: &Changelog, row: usize) -> Option<i64> {
    let column = changelog.table.system_column(SystemColumn::EventTime);
    time_at(changelog.batch.column(column), row)
}

fn time_at(column: &ArrayRef, row: usize) -> Option<i64> {
    let times = column.as_any().downcast_ref::<TimestampMicrosecondArray>()?;
    times.is_valid(row).then(|| times.value(row))
}
