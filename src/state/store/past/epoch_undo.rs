//! What takes an epoch of a table back.
//!
//! Rows are kept by their values and not by their places, so that segments may be merged meanwhile.

use arrow::array::RecordBatch;

use super::deleted_row::{DeletedRow, RememberedDelete};
use crate::model::{KeyBytes, Position};
use crate::state::store::place::{KeyEntry, LastChange};

/// How a table was when the epoch began.
#[derive(Debug)]
pub(in crate::state::store) struct EpochUndo {
    /// In the order in which they were changed.
    pub(in crate::state::store) steps: Vec<UndoStep>,
    pub(in crate::state::store) newest: Option<Position>,
    pub(in crate::state::store) truncated: Option<LastChange>,
    pub(in crate::state::store) last_deleted: Option<DeletedRow>,
}

#[derive(Debug)]
pub(in crate::state::store) enum UndoStep {
    /// Keys that had no row: not known, or known as deleted.
    Keys(Vec<(KeyBytes, Option<KeyEntry>)>),
    /// Keys with their rows, and when the source had changed these.
    Rows { keys: Vec<(KeyBytes, LastChange)>, rows: RecordBatch, changed_at: Vec<i64> },
    /// What a truncate made the table forget.
    Truncated(Vec<RememberedDelete>),
}

impl EpochUndo {
    pub(in crate::state::store) fn note_keys(&mut self, keys: Vec<(KeyBytes, Option<KeyEntry>)>) {
        if !keys.is_empty() {
            self.steps.push(UndoStep::Keys(keys));
        }
    }

    pub(in crate::state::store) fn note_rows(
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

    pub(in crate::state::store) fn note_truncated(&mut self, deleted: Vec<RememberedDelete>) {
        self.steps.push(UndoStep::Truncated(deleted));
    }

    /// The keys that it has changed.
    pub(in crate::state::store) fn keys(&self) -> impl Iterator<Item = &KeyBytes> {
        self.steps.iter().flat_map(UndoStep::keys)
    }
}

impl UndoStep {
    fn keys(&self) -> Box<dyn Iterator<Item = &KeyBytes> + '_> {
        match self {
            Self::Keys(keys) => Box::new(keys.iter().map(|(key, _)| key)),
            Self::Rows { keys, .. } => Box::new(keys.iter().map(|(key, _)| key)),
            Self::Truncated(deleted) => Box::new(deleted.iter().map(|delete| &delete.key)),
        }
    }
}
