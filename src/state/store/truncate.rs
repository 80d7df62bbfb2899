//! The source emptied a table: every row of an older position is gone.

use arrow::array::{Array, AsArray};
use arrow::error::ArrowError;

use super::touched::Touched;
use super::{StateStores, Store};
use crate::model::{Changelog, KeyBytes, Operation, Position, Scn, SystemColumn, Truncation};

impl Store {
    /// Takes away all rows, and all memory of deleted ones, that are older than it; how many
    /// rows. Older changes that come later are stale from now on.
    pub(super) fn truncate(
        &mut self,
        truncation: &Truncation,
        touched: &mut Touched,
    ) -> Result<usize, ArrowError> {
        let position = truncation.position;
        self.note_truncate(position, truncation.scn);
        let is_older = |(_, entry): &(&KeyBytes, &super::store::Entry)| entry.position < position;
        let keys: Vec<KeyBytes> =
            self.entries.iter().filter(is_older).map(|(key, _)| key.clone()).collect();
        let is_emptied = keys.len() == self.entries.len();
        if let Some(groups) = self.groups.as_mut().filter(|_| is_emptied) {
            groups.clear();
        }
        let mut rows = 0;
        for key in keys {
            let slot = self.entries.remove(&key).and_then(|entry| entry.slot);
            rows += usize::from(slot.is_some());
            match is_emptied {
                true => self.take_row(&key, slot, touched),
                false => self.take_away(&key, slot, touched)?,
            }
        }
        self.deleted.retain(|deleted| deleted.position >= position);
        // The rows that ttl dropped are gone as well, so that nothing is missing in any window.
        self.forget_dropped();
        Ok(rows)
    }

    fn note_truncate(&mut self, position: Position, scn: Option<Scn>) {
        if self.truncated.is_none_or(|truncated| truncated < position) {
            (self.truncated, self.truncated_scn) = (Some(position), scn);
        }
    }
}

impl StateStores {
    /// Remembers truncates by the deletes that they have landed: newest rows of keys, as a start reads them.
    pub fn note_truncates(&mut self, newest: &Changelog) {
        if newest.table.options.extracted_from.is_some() {
            // The events of its rows have numbers as well.
            return;
        }
        let ids = newest.batch.column(newest.table.system_column(SystemColumn::EventId));
        let Some(ids) = ids.as_string_opt::<i32>() else { return };
        // The offset and a number; the delete of a changed key has a word instead.
        let is_numbered = |id: &str| {
            let number = id.rsplit_once('#').map(|(_, number)| number);
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let of_truncates = (0..newest.len()).filter(|row| {
            let is_delete = newest.operations[*row] == Operation::Delete;
            is_delete && ids.is_valid(*row) && is_numbered(ids.value(*row))
        });
        let newest_one = of_truncates.max_by_key(|row| newest.positions[*row]);
        let store = &mut self.stores[self.by_name[&newest.table.name]];
        if let Some(row) = newest_one {
            store.note_truncate(newest.positions[row], newest.scns[row]);
        }
    }
}

/// The newest of a changelog's truncations, and of those before it, that is older than `position`.
pub(super) fn newest_before(
    changelog: &Changelog,
    earlier: Option<Position>,
    position: Position,
) -> Option<Position> {
    let of_changelog = changelog.truncations.iter().map(|truncation| truncation.position);
    of_changelog.chain(earlier).filter(|truncated| *truncated < position).max()
}
