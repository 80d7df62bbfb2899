//! The end of a fold: it updates the indexes and returns the difference.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::delta_builder::DeltaBuilder;
use super::place::{RowPlace, Slot};
use super::table_store::TableStore;
use crate::model::TableDelta;

/// Rows of one kind in a delta.
#[derive(Debug, Default)]
struct DeltaRows {
    places: Vec<RowPlace>,
    slots: Vec<Slot>,
}

impl DeltaRows {
    fn push(&mut self, place: RowPlace, slot: Slot) {
        self.places.push(place);
        self.slots.push(slot);
    }
}

impl TableStore {
    /// Brings the indexes up to date with what was touched, and tells the difference. No segment may
    /// have been rewritten since the first touch.
    pub(super) fn settle(&mut self, touched: DeltaBuilder) -> Result<TableDelta, ArrowError> {
        let (mut before, mut after) = (DeltaRows::default(), DeltaRows::default());
        let (mut inserted, mut deleted) = (DeltaRows::default(), DeltaRows::default());
        let (mut replaced_keys, mut deleted_keys) = (Vec::new(), Vec::new());
        let (mut keys_without_row, mut unused) = (Vec::new(), Vec::new());
        for (key, touch) in touched.into_touches() {
            let there = self.place_of(&key);
            let known = match (touch.before, there) {
                (Some(_), Some(_)) => &mut replaced_keys,
                (Some(_), None) => &mut deleted_keys,
                (None, _) => &mut keys_without_row,
            };
            known.push((key, touch.entry));
            let Some(slot) = touch.slot else { continue };
            match (touch.before, there) {
                (Some(old), Some(new)) => {
                    before.push(old, slot);
                    after.push(new, slot);
                }
                (None, Some(new)) => inserted.push(new, slot),
                (Some(old), None) => {
                    deleted.push(old, slot);
                    unused.push(slot);
                }
                (None, None) => unused.push(slot),
            }
        }
        let delta = TableDelta {
            table: self.table.name.clone(),
            before: self.whole_rows(&before.places)?,
            after: self.whole_rows(&after.places)?,
            inserted: self.whole_rows(&inserted.places)?,
            deleted: self.whole_rows(&deleted.places)?,
        };
        for index in &mut self.indexes {
            index.remove(&delta.deleted, &deleted.slots)?;
            index.update(&delta.before, &delta.after, &after.slots)?;
            index.insert(&delta.inserted, &inserted.slots)?;
        }
        unused.into_iter().for_each(|slot| self.slots.give_back(slot));
        let replaced_at = self.changed_at(&before.places);
        let deleted_at = self.changed_at(&deleted.places);
        if let Some(undo) = self.undo.open() {
            undo.note_keys(keys_without_row);
            undo.note_rows(replaced_keys, &delta.before, replaced_at);
            undo.note_rows(deleted_keys, &delta.deleted, deleted_at);
        } else if self.disk.is_some() {
            // Nothing takes it back: it is of the landing tables.
            let keys = [keys_without_row, replaced_keys, deleted_keys].into_iter().flatten();
            self.dirty.extend(keys.map(|(key, _)| key));
        }
        Ok(delta)
    }

    fn changed_at(&self, places: &[RowPlace]) -> Vec<i64> {
        places.iter().map(|place| self.segments[place.segment()].changed_at[place.row()]).collect()
    }

    fn whole_rows(&self, places: &[RowPlace]) -> Result<RecordBatch, ArrowError> {
        self.rows_at(places, &self.all_columns())
    }
}
