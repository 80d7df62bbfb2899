//! The source emptied a table: every row of an older position is gone.

use arrow::error::ArrowError;

use super::Store;
use super::groups::Groups;
use super::touched::Touched;
use crate::changelog::{Changelog, KeyBytes, Position};

impl Store {
    /// Takes away all rows, and all memory of deleted ones, that are older than `position`; how many
    /// rows. Older changes that come later are stale from now on.
    pub(super) fn truncate(
        &mut self,
        position: Position,
        touched: &mut Touched,
    ) -> Result<usize, ArrowError> {
        self.truncated = self.truncated.max(Some(position));
        let is_older = |(_, entry): &(&KeyBytes, &super::store::Entry)| entry.position < position;
        let keys: Vec<KeyBytes> =
            self.entries.iter().filter(is_older).map(|(key, _)| key.clone()).collect();
        let is_emptied = keys.len() == self.entries.len();
        if let Some((_, groups)) = self.groups.as_mut().filter(|_| is_emptied) {
            *groups = Groups::default();
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
