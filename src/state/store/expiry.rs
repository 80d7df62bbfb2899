//! Which rows ttl may drop from memory.

use arrow::array::{Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::error::ArrowError;

use super::delta_builder::DeltaBuilder;
use super::place::{RowPlace, Slot};
use super::table_store::TableStore;
use crate::model::{Position, TableDelta};
use crate::state::error::StateError;

/// The times before which a row is no longer needed. Microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct Horizon {
    /// Rows that have not changed since; `None`: rows never expire.
    pub(in crate::state) changed_before: Option<i64>,
    /// Rows whose event time is before it are in no open window.
    pub(in crate::state) event_before: i64,
    pub(in crate::state) forget_deletes_before: i64,
    /// Changes up to here are landed: whoever looks for a dropped row finds it there.
    pub(in crate::state) landed: Position,
}

impl TableStore {
    /// Drops the rows that are beyond the horizon and whose parent row is not in memory. `parents` are
    /// the stores of other tables that this one may reference.
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub(in crate::state) fn expire(
        &mut self,
        parents: &[Self],
        horizon: &Horizon,
    ) -> Result<Option<TableDelta>, StateError> {
        self.forget_deletes(horizon);
        let Some(changed_before) = horizon.changed_before else { return Ok(None) };
        let dropped = self.drop_beyond(horizon, changed_before, parents);
        dropped.map_err(|source| self.error(source))
    }

    fn forget_deletes(&mut self, horizon: &Horizon) {
        let (entries, has_forgotten) = (&mut self.entries, &mut self.has_forgotten);
        self.deleted.retain(|delete| {
            let is_old =
                delete.at < horizon.forget_deletes_before && delete.position <= horizon.landed;
            let entry = entries.get(&delete.key);
            // The key may have come back, and may have been deleted once more.
            let is_its_last = entry.is_some_and(|entry| entry.last.position == delete.position);
            if is_old && is_its_last {
                entries.remove(&delete.key);
                *has_forgotten = true;
            }
            !is_old && is_its_last
        });
    }

    fn drop_beyond(
        &mut self,
        horizon: &Horizon,
        changed_before: i64,
        parents: &[Self],
    ) -> Result<Option<TableDelta>, ArrowError> {
        let mut dropped = DeltaBuilder::default();
        for at in 0..self.segments.len() {
            let segment = &self.segments[at];
            let event_time = self.event_time_column(&segment.batch);
            let candidates: Vec<u32> = (0..segment.changed_at.len())
                .filter(|row| segment.is_live(*row) && segment.changed_at[*row] < changed_before)
                .filter(|row| {
                    event_time
                        .is_none_or(|t| t.is_null(*row) || t.value(*row) < horizon.event_before)
                })
                .map(|row| row as u32)
                .collect();
            if candidates.is_empty() {
                continue;
            }
            let orphans = self.without_parent(parents, at, &UInt32Array::from(candidates))?;
            let rows = take_record_batch(&self.segments[at].batch, &orphans)?;
            for key in &self.keys.encode(&rows)? {
                if self.position(key.as_ref()).is_some_and(|position| position <= horizon.landed) {
                    self.drop_row(key.as_ref(), &mut dropped)?;
                }
            }
        }
        if dropped.is_empty() {
            return Ok(None);
        }
        let delta = self.settle(dropped)?;
        self.compact()?;
        Ok(Some(delta))
    }

    /// Takes a key out of memory; `settle` must follow.
    fn drop_row(&mut self, key: &[u8], touched: &mut DeltaBuilder) -> Result<(), ArrowError> {
        (self.has_dropped, self.has_forgotten) = (true, true);
        let entry = self.entries.remove(key);
        if self.table.options.event_time.is_some()
            && let Some(place) = entry.and_then(|entry| self.place(&entry))
        {
            self.dropped_times.note(self.event_time(place));
        }
        self.take_away(key, entry, touched)
    }

    /// Takes the rows of some slots out of memory.
    pub(in crate::state) fn drop_slots(&mut self, slots: &[Slot]) -> Result<(), ArrowError> {
        let mut dropped = DeltaBuilder::default();
        for key in &self.keys.encode(&self.rows_of(slots, &self.all_columns())?)? {
            self.drop_row(key.as_ref(), &mut dropped)?;
        }
        self.settle(dropped)?;
        self.compact()
    }

    fn event_time_column<'a>(
        &self,
        batch: &'a RecordBatch,
    ) -> Option<&'a TimestampMicrosecondArray> {
        batch.column(self.table.options.event_time?).as_any().downcast_ref()
    }

    /// The event time of a row in memory; `None` if it has none.
    pub(in crate::state) fn event_time(&self, place: RowPlace) -> Option<i64> {
        let times = self.event_time_column(&self.segments[place.segment()].batch)?;
        times.is_valid(place.row()).then(|| times.value(place.row()))
    }

    /// Those of the candidate rows whose parent is not in memory; all of them if there is no parent table.
    fn without_parent(
        &self,
        parents: &[Self],
        segment: usize,
        candidates: &UInt32Array,
    ) -> Result<UInt32Array, ArrowError> {
        let Some(reference) = &self.table.options.references else { return Ok(candidates.clone()) };
        let mut stores = parents.iter().chain([self]);
        let Some(parent) = stores.find(|store| store.table.name == reference.table) else {
            return Ok(candidates.clone());
        };
        let column = self.segments[segment].batch.column(reference.column);
        let keys = parent.keys.encode_columns(&[take(column, candidates, None)?])?;
        let orphans = candidates.values().iter().zip(&keys);
        let orphans = orphans.filter(|(_, key)| parent.place_of(key.as_ref()).is_none());
        Ok(orphans.map(|(row, _)| *row).collect::<Vec<u32>>().into())
    }
}
