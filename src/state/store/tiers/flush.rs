//! What has changed, to the disk.

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;

use crate::model::KeyBytes;
use crate::state::disk::Writes;
use crate::state::error::StateError;
use crate::state::store::on_disk::{DiskKey, DiskRows};
use crate::state::store::table_store::TableStore;

/// Rows that are encoded at once.
const AT_ONCE: usize = 8192;

impl TableStore {
    /// Bytes, roughly, of the keys that differ from the disk.
    pub(in crate::state) fn dirty_bytes(&self) -> usize {
        self.dirty.len() * self.memory() / self.entries.len().max(1)
    }

    pub(in crate::state) fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Adds the writes that bring the disk up to date; no epoch is in flight. They count as done when
    /// [`Self::note_flushed`] says so.
    ///
    /// # Errors
    /// If Arrow can't process a batch, or the disk can't be read.
    pub(in crate::state) fn flush(&mut self, writes: &mut Writes) -> Result<(), StateError> {
        debug_assert!(self.undo.iter().next().is_none(), "an epoch in flight may be taken back");
        let keys: Vec<KeyBytes> = self.dirty.drain().collect();
        let written =
            keys.chunks(AT_ONCE).try_for_each(|keys| self.write_changed(keys, &mut *writes));
        self.flushing.extend(keys);
        written.map_err(|source| {
            self.note_flushed(false);
            self.error(source)
        })
    }

    /// The writes of the last flush are done, or have failed.
    pub(in crate::state) fn note_flushed(&mut self, is_done: bool) {
        let keys = std::mem::take(&mut self.flushing);
        if is_done {
            self.is_marked = true;
        } else {
            self.dirty.extend(keys);
        }
    }

    /// Brings the disk up to date at once while rows are loaded, if no mark names them: until one does they count as not
    /// there.
    ///
    /// # Errors
    /// If the disk can't be written.
    pub(in crate::state) fn spill(&mut self) -> Result<(), StateError> {
        let Some(disk) = self.disk.as_ref().filter(|_| !self.is_marked) else { return Ok(()) };
        let mut writes = disk.writes();
        self.flush(&mut writes)?;
        let written = writes.commit();
        if written.is_err() {
            self.note_flushed(false);
        }
        self.flushing.clear();
        Ok(written?)
    }

    fn write_changed(&self, keys: &[KeyBytes], writes: &mut Writes) -> Result<(), ArrowError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let (mut rows, mut places, mut deleted, mut gone) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            let Some(entry) = self.entry(key) else {
                gone.push(key.clone());
                continue;
            };
            let known = |changed_at| DiskKey { key: key.clone(), last: entry.last, changed_at };
            match self.place(entry) {
                Some(place) => {
                    rows.push(known(self.segments[place.segment()].changed_at[place.row()]));
                    places.push(place.pair());
                }
                // Nothing goes by when it was deleted once it is on disk.
                None => deleted.push(known(0)),
            }
        }
        let batches: Vec<&RecordBatch> = self.batches().collect();
        let batch = if places.is_empty() {
            self.rows_at(&[], &self.all_columns())?
        } else {
            interleave_record_batch(&batches, &places)?
        };
        disk.write(&DiskRows { keys: rows, rows: batch, deleted, gone }, writes)
    }
}
