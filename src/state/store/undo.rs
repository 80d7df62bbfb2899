//! Epochs of a table, taken back: every key becomes what it was before.

use arrow::error::ArrowError;

use super::delta_builder::DeltaBuilder;
use super::past::{EpochUndo, UndoStep};
use super::place::RowPlace;
use super::segment::RowSegment;
use super::table_store::TableStore;
use crate::state::error::StateError;

impl TableStore {
    /// From here on everything can be taken back.
    pub(in crate::state) fn begin_epoch(&mut self) {
        self.undo.begin(EpochUndo {
            steps: Vec::new(),
            newest: self.newest,
            truncated: self.truncated,
            last_deleted: self.last_deleted.clone(),
        });
    }

    /// All of the epoch is computed; it waits for its commit.
    pub(in crate::state) fn finish_epoch(&mut self) {
        self.undo.finish();
    }

    /// The oldest finished epoch stays for good.
    pub(in crate::state) fn commit_epoch(&mut self) {
        if let Some(epoch) = self.undo.commit()
            && self.disk.is_some()
        {
            self.dirty.extend(epoch.keys().cloned());
        }
    }

    /// Makes the table what it was when the newest epoch began.
    pub(in crate::state) fn abort_epoch(&mut self) -> Result<(), StateError> {
        let Some(undo) = self.undo.abort() else { return Ok(()) };
        for step in undo.steps.into_iter().rev() {
            self.take_back(step).map_err(|source| self.error(source))?;
        }
        (self.newest, self.truncated) = (undo.newest, undo.truncated);
        self.last_deleted = undo.last_deleted;
        self.compact().map_err(|source| self.error(source))
    }

    fn take_back(&mut self, step: UndoStep) -> Result<(), ArrowError> {
        let mut touched = DeltaBuilder::default();
        match step {
            UndoStep::Keys(keys) => {
                for (key, before) in keys {
                    let now = self.entries.get(&key).copied();
                    self.take_away(&key, now, &mut touched)?;
                    match before {
                        Some(before) => self.entries.insert(key, before),
                        None => self.entries.remove(&key),
                    };
                }
            }
            UndoStep::Rows { keys, rows, changed_at } => {
                let segment = self.segments.len();
                let count = rows.num_rows();
                let rows = self.pruned.apply(&self.schema, rows.columns().to_vec(), count)?;
                self.segments.push(RowSegment::new(rows, changed_at));
                self.live_rows += count;
                for (row, (key, last)) in keys.into_iter().enumerate() {
                    let now = self.entries.get(&key).copied();
                    self.take_away(&key, now, &mut touched)?;
                    let place = RowPlace::new(segment, row);
                    self.put(&key, last, place, &mut touched);
                    self.rejoin_group(place)?;
                }
            }
            UndoStep::Truncated(deleted) => self.deleted.extend(deleted),
        }
        self.settle(touched).map(drop)
    }
}
