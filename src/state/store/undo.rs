//! An epoch of a table, taken back: every key becomes what it was before.
//!
//! Rows are kept by their values and not by their places, so that segments may be merged meanwhile.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use hashbrown::HashSet;

use super::deleted_row::DeletedRow;
use super::delta_builder::DeltaBuilder;
use super::dropped_times::DroppedTimes;
use super::place::{KeyEntry, LastChange, RowPlace};
use super::segment::RowSegment;
use super::table_store::{RememberedDelete, TableStore};
use crate::model::{KeyBytes, Position};
use crate::state::error::StateError;

/// How a table was when the epoch began.
#[derive(Debug)]
pub(super) struct EpochUndo {
    /// In the order in which they were changed.
    steps: Vec<UndoStep>,
    newest: Option<Position>,
    truncated: Option<LastChange>,
    last_deleted: Option<DeletedRow>,
    has_dropped: bool,
    has_forgotten: bool,
    dropped_times: DroppedTimes,
}

#[derive(Debug)]
enum UndoStep {
    /// Keys that had no row: not known, or known as deleted.
    Keys(Vec<(KeyBytes, Option<KeyEntry>)>),
    /// Keys with their rows, and when the source had changed these.
    Rows { keys: Vec<(KeyBytes, LastChange)>, rows: RecordBatch, changed_at: Vec<i64> },
    /// What a truncate made the table forget.
    Truncated { deleted: Vec<RememberedDelete>, cut: Option<HashSet<KeyBytes>> },
}

impl EpochUndo {
    pub(super) fn note_keys(&mut self, keys: Vec<(KeyBytes, Option<KeyEntry>)>) {
        if !keys.is_empty() {
            self.steps.push(UndoStep::Keys(keys));
        }
    }

    pub(super) fn note_rows(
        &mut self,
        keys: Vec<(KeyBytes, Option<KeyEntry>)>,
        rows: &RecordBatch,
        changed_at: Vec<i64>,
    ) {
        let keys: Vec<(KeyBytes, LastChange)> =
            keys.into_iter().filter_map(|(key, entry)| Some((key, entry?.last))).collect();
        debug_assert_eq!(keys.len(), rows.num_rows(), "what has a row is known");
        if !keys.is_empty() {
            self.steps.push(UndoStep::Rows { keys, rows: rows.clone(), changed_at });
        }
    }

    pub(super) fn note_truncated(
        &mut self,
        deleted: Vec<RememberedDelete>,
        cut: Option<HashSet<KeyBytes>>,
    ) {
        self.steps.push(UndoStep::Truncated { deleted, cut });
    }
}

impl TableStore {
    /// From here on everything can be taken back.
    pub(in crate::state) fn begin_epoch(&mut self) {
        self.undo = Some(EpochUndo {
            steps: Vec::new(),
            newest: self.newest,
            truncated: self.truncated,
            last_deleted: self.last_deleted.clone(),
            has_dropped: self.has_dropped,
            has_forgotten: self.has_forgotten,
            dropped_times: self.dropped_times,
        });
    }

    /// What was done stays.
    pub(in crate::state) fn commit_epoch(&mut self) {
        self.undo = None;
    }

    /// Makes the table what it was when the epoch began.
    pub(in crate::state) fn abort_epoch(&mut self) -> Result<(), StateError> {
        let Some(undo) = self.undo.take() else { return Ok(()) };
        for step in undo.steps.into_iter().rev() {
            self.take_back(step).map_err(|source| self.error(source))?;
        }
        (self.newest, self.truncated) = (undo.newest, undo.truncated);
        self.last_deleted = undo.last_deleted;
        (self.has_dropped, self.has_forgotten) = (undo.has_dropped, undo.has_forgotten);
        self.dropped_times = undo.dropped_times;
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
            UndoStep::Truncated { deleted, cut } => {
                self.deleted.extend(deleted);
                if let (Some(groups), Some(cut)) = (&mut self.groups, cut) {
                    groups.put_cut_back(cut);
                }
            }
        }
        self.settle(touched).map(drop)
    }
}
