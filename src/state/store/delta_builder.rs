//! Which keys a fold touched, and what it made of them.

use arrow::array::RecordBatch;
use arrow::compute::interleave;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use super::Store;
use super::index::Slot;
use super::store::Place;
use crate::model::{KeyBytes, TableDelta};

/// The keys that one call touched, with their rows from before it.
#[derive(Debug, Default)]
pub(super) struct Touched(HashMap<KeyBytes, Touch>);

#[derive(Debug)]
struct Touch {
    /// The slot that the key had or got.
    slot: Option<Slot>,
    before: Option<Place>,
}

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the first time counts: later rows of the key are of this call.
    pub(super) fn note(&mut self, key: &[u8], slot: Option<Slot>, before: Option<Place>) {
        if !self.0.contains_key(key) {
            self.0.insert(key.into(), Touch { slot, before });
        }
    }

    /// The slot that a key keeps through this call, even if it was deleted in between.
    pub(super) fn slot(&self, key: &[u8]) -> Option<Slot> {
        self.0.get(key).and_then(|touch| touch.slot)
    }

    pub(super) fn set_slot(&mut self, key: &[u8], slot: Slot) {
        if let Some(touch) = self.0.get_mut(key) {
            touch.slot = Some(slot);
        }
    }
}

/// Rows of one kind in a delta.
#[derive(Debug, Default)]
struct Rows {
    places: Vec<Place>,
    slots: Vec<Slot>,
}

impl Rows {
    fn push(&mut self, place: Place, slot: Slot) {
        self.places.push(place);
        self.slots.push(slot);
    }
}

impl Store {
    /// Brings the indexes up to date with what was touched, and tells the difference. No segment may
    /// have been rewritten since the first touch.
    pub(super) fn settle(&mut self, touched: Touched) -> Result<TableDelta, ArrowError> {
        let (mut before, mut after) = (Rows::default(), Rows::default());
        let (mut inserted, mut deleted) = (Rows::default(), Rows::default());
        let mut unused = Vec::new();
        for (key, touch) in touched.0 {
            let Some(slot) = touch.slot else { continue };
            let now = self.entries.get(&*key).and_then(|entry| self.place(entry));
            match (touch.before, now) {
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
        Ok(delta)
    }

    fn whole_rows(&self, places: &[Place]) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        self.rows_at(places, &columns)
    }

    /// The rows at some places, with some of their columns.
    pub(super) fn rows_at(
        &self,
        places: &[Place],
        columns: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        let schema = self.schema.project(columns)?.into();
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        let at: Vec<(usize, usize)> = places.iter().map(|p| (p.segment(), p.row())).collect();
        let column = |column: &usize| {
            let segments: Vec<_> =
                self.segments.iter().map(|s| s.batch.column(*column).as_ref()).collect();
            interleave(&segments, &at)
        };
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(places.len()));
        let columns = columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new_with_options(schema, columns, &options)
    }
}
