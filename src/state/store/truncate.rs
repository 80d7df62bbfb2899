//! The source emptied a table: every row of an older position is gone.

use arrow::array::{Array, AsArray};
use arrow::error::ArrowError;

use super::delta_builder::DeltaBuilder;
use super::place::LastChange;
use super::table_store::TableStore;
use crate::model::{Changelog, KeyBytes, Operation, Position, Scn, SystemColumn, Truncation};

impl TableStore {
    /// Takes away all rows, and all memory of deleted ones, that are older than it; how many
    /// rows. Older changes that come later are stale from now on.
    pub(super) fn truncate(
        &mut self,
        truncation: &Truncation,
        touched: &mut DeltaBuilder,
    ) -> Result<usize, ArrowError> {
        let position = truncation.position;
        self.note_truncate(LastChange { position, scn: truncation.scn });
        let older = self.entries.iter().filter(|(_, entry)| entry.last.position < position);
        let keys: Vec<KeyBytes> = older.map(|(key, _)| key.clone()).collect();
        let is_emptied = keys.len() == self.entries.len();
        if let Some(groups) = self.groups.as_mut().filter(|_| is_emptied) {
            groups.clear();
        }
        let mut rows = 0;
        for key in keys {
            let entry = self.entries.remove(&key);
            rows += usize::from(entry.is_some_and(|entry| entry.slot.is_some()));
            if is_emptied {
                self.take_row(&key, entry, touched);
            } else {
                self.take_away(&key, entry, touched)?;
            }
        }
        let (kept, older) =
            std::mem::take(&mut self.deleted).into_iter().partition(|it| it.position >= position);
        self.deleted = kept;
        if let Some(undo) = self.undo.open() {
            undo.note_truncated(older);
        }
        Ok(rows)
    }

    /// The newest truncate, as it was kept: position and SCN.
    pub(in crate::state) fn set_truncated(&mut self, truncated: Option<(i64, Option<i64>)>) {
        self.truncated = truncated.map(|(position, scn)| LastChange {
            position: Position(position),
            scn: scn.and_then(Scn::new),
        });
    }

    /// Changes up to here are undone.
    pub(in crate::state) fn note_truncate(&mut self, truncate: LastChange) {
        if self.truncated_at().is_none_or(|truncated| truncated < truncate.position) {
            self.truncated = Some(truncate);
        }
    }

    /// The newest truncate that has landed some of these changes: a delete of every row that was there.
    pub(in crate::state) fn landed_truncate(landed: &Changelog) -> Option<LastChange> {
        if landed.table.is_extracted() {
            // The events of its rows have numbers as well.
            return None;
        }
        let ids = landed.batch.column(landed.table.system_column(SystemColumn::EventId));
        let ids = ids.as_string_opt::<i32>()?;
        // The offset and a number; the delete of a changed key has a word instead.
        let is_numbered = |id: &str| {
            let number = id.rsplit_once('#').map(|(_, number)| number);
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let of_truncates = (0..landed.len()).filter(|row| {
            let is_delete = landed.operations[*row] == Operation::Delete;
            is_delete && ids.is_valid(*row) && is_numbered(ids.value(*row))
        });
        let row = of_truncates.max_by_key(|row| landed.positions[*row])?;
        Some(LastChange { position: landed.positions[row], scn: landed.scns[row] })
    }
}
