//! What committed epochs have changed, to the disk: each key as it was committed, whatever epochs in flight make of it.

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::model::KeyBytes;
use crate::state::disk::Writes;
use crate::state::error::StateError;
use crate::state::store::on_disk::{LeavingKey, LeavingRows};
use crate::state::store::past::KeyBefore;
use crate::state::store::place::LastChange;
use crate::state::store::table_store::TableStore;

/// A key as it is committed; a row by its place in some batches.
#[derive(Debug, Clone, Copy)]
enum Committed {
    Row {
        last: LastChange,
        changed_at: i64,
        at: (usize, usize),
    },
    Deleted(LastChange),
    /// It was not there.
    Nothing,
}

impl TableStore {
    /// The keys that are to be flushed; they count as changed no more.
    pub(in crate::state) fn take_dirty(&mut self) -> Vec<KeyBytes> {
        std::mem::take(&mut self.dirty).into_iter().collect()
    }

    /// The newest truncate that is committed.
    pub(in crate::state) fn committed_truncate(&self) -> Option<LastChange> {
        self.undo.iter().next().map_or(self.truncated, |oldest| oldest.truncated)
    }

    /// All that is known is to be flushed.
    pub(in crate::state) fn mark_dirty(&mut self) {
        self.dirty.extend(self.entries.keys().cloned());
    }

    /// How many keys are to be flushed.
    pub(in crate::state) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Keys that could not be flushed.
    pub(in crate::state) fn put_dirty_back(&mut self, keys: Vec<KeyBytes>) {
        self.dirty.extend(keys);
    }

    /// Adds writes that bring some keys to the disk. Keys that have left memory were written then.
    ///
    /// # Errors
    /// If Arrow can't process a batch, or the disk can't be read.
    pub(in crate::state) fn flush(
        &self,
        keys: &[KeyBytes],
        writes: &mut Writes<'_>,
    ) -> Result<(), StateError> {
        self.write_committed(keys, writes).map_err(|source| self.error(source))
    }

    fn write_committed(
        &self,
        keys: &[KeyBytes],
        writes: &mut Writes<'_>,
    ) -> Result<(), ArrowError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let mut batches: Vec<&RecordBatch> = self.batches().collect();
        let before = self.before_in_flight(&mut batches);
        let (mut rows, mut places, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            let leaving = |last, changed_at| LeavingKey { key: key.clone(), last, changed_at };
            match before.get(key).copied().unwrap_or_else(|| self.in_memory(key)) {
                Committed::Row { last, changed_at, at } => {
                    rows.push(leaving(last, changed_at));
                    places.push(at);
                }
                // Nothing goes by when it was deleted once it is on disk.
                Committed::Deleted(last) => deleted.push(leaving(last, 0)),
                Committed::Nothing => {}
            }
        }
        let batch = if places.is_empty() {
            self.rows_at(&[], &self.all_columns())?
        } else {
            interleave_record_batch(&batches, &places)?
        };
        disk.write_into(&LeavingRows { keys: rows, rows: batch, deleted }, writes)
    }

    fn in_memory(&self, key: &KeyBytes) -> Committed {
        let Some(entry) = self.entry(key) else { return Committed::Nothing };
        match self.place(entry) {
            None => Committed::Deleted(entry.last),
            Some(place) => {
                let changed_at = self.segments[place.segment()].changed_at[place.row()];
                Committed::Row { last: entry.last, changed_at, at: place.pair() }
            }
        }
    }

    /// The keys that epochs have changed which may still be taken back, as they were before all of these. Their rows
    /// are added to `batches`.
    fn before_in_flight<'a>(
        &'a self,
        batches: &mut Vec<&'a RecordBatch>,
    ) -> HashMap<&'a KeyBytes, Committed> {
        let mut before: HashMap<&KeyBytes, Committed> = HashMap::new();
        for step in self.undo.iter().flat_map(|epoch| &epoch.steps) {
            let batch = batches.len();
            batches.extend(step.rows());
            for (key, known) in step.before() {
                before.entry(key).or_insert(match known {
                    KeyBefore::NoRow(None) => Committed::Nothing,
                    KeyBefore::NoRow(Some(entry)) => Committed::Deleted(entry.last),
                    KeyBefore::Row { last, changed_at, row } => {
                        Committed::Row { last, changed_at, at: (batch, row) }
                    }
                });
            }
        }
        before
    }
}
