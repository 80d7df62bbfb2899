//! Which rows leave memory, because the disk has them, and which keys that are remembered as deleted.

use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use hashbrown::HashSet;

use crate::model::KeyBytes;
use crate::state::disk::{Engine, Number};
use crate::state::error::StateError;
use crate::state::store::delta_builder::DeltaBuilder;
use crate::state::store::index::HashIndex;
use crate::state::store::on_disk::DiskTable;
use crate::state::store::place::{KeyEntry, Slot};
use crate::state::store::segment::RowSegment;
use crate::state::store::table_store::TableStore;

/// Rows that leave at once.
const AT_ONCE: usize = 8192;

/// Segments without rows that are left in their places: who takes them out has to find all rows after them again.
const MOST_EMPTY: usize = 16;

/// What may leave memory.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct Eviction {
    /// Rows that have not changed since, in microseconds since 1970; `None`: those of any age stay.
    pub(in crate::state) changed_before: Option<i64>,
    /// How many more leave, the first to have come first.
    pub(in crate::state) surplus: usize,
    /// Deletes that are older.
    pub(in crate::state) deleted_before: i64,
}

impl TableStore {
    /// What rows on disk are like: those of another shape are of no use.
    pub(in crate::state) fn shape(&self) -> String {
        let columns = self.table.columns.iter().enumerate().map(|(at, column)| {
            let kept = if self.pruned.has(at) { "-" } else { "+" };
            format!("{kept}{} {:?}", column.name, column.data_type)
        });
        let indexes = self.indexes.iter().map(HashIndex::columns);
        format!(
            "{} [{}] key {:?} indexes {:?} group {:?}",
            self.table.source,
            columns.collect::<Vec<_>>().join(", "),
            self.table.key,
            indexes.collect::<Vec<_>>(),
            self.table.options.group,
        )
    }

    /// Says where the rows are on disk. Indexes are there by now. All that is in memory is to be flushed.
    ///
    /// # Errors
    /// If Arrow has no row format for a column.
    pub(in crate::state) fn use_disk(
        &mut self,
        engine: &Arc<Engine>,
        number: Number,
    ) -> Result<(), StateError> {
        let group = self.table.options.group.map(|bound| [bound.column]);
        let mut indexes: Vec<&[usize]> = self.indexes.iter().map(|it| it.columns()).collect();
        indexes.extend(group.iter().map(|column| &column[..]));
        let disk = DiskTable::new(Arc::clone(engine), number, &self.schema, &indexes);
        self.disk = Some(disk.map_err(|source| self.error(source))?);
        self.is_marked = false;
        self.dirty.extend(self.entries.keys().cloned());
        Ok(())
    }

    /// Takes rows and deletes out of memory which the disk has; how many rows.
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub(in crate::state) fn evict(&mut self, eviction: Eviction) -> Result<usize, StateError> {
        self.let_go(eviction).map_err(|source| self.error(source))
    }

    fn let_go(&mut self, eviction: Eviction) -> Result<usize, ArrowError> {
        if self.disk.is_none() || !self.has_leaving(eviction) {
            return Ok(0);
        }
        let in_flight: HashSet<KeyBytes> =
            self.undo.iter().flat_map(|epoch| epoch.keys()).cloned().collect();
        self.let_deletes_go(eviction, &in_flight);
        let mut surplus = eviction.surplus;
        let mut left = 0;
        for at in 0..self.segments.len() {
            let segment = &self.segments[at];
            let mut is_leaving = |row: &usize| {
                let changed_at = segment.changed_at[*row];
                if eviction.changed_before.is_some_and(|before| changed_at < before) {
                    return true;
                }
                let is_surplus = surplus > 0;
                surplus -= usize::from(is_surplus);
                is_surplus
            };
            let rows: Vec<u32> =
                segment.live_rows().filter(&mut is_leaving).map(|row| row as u32).collect();
            let mut left_segment = 0;
            for part in rows.chunks(AT_ONCE) {
                left_segment += self.let_rows_go(at, part, &in_flight)?;
            }
            if left_segment > 0 && eviction.surplus > 0 {
                // What is dead takes memory until then.
                self.rewrite(at)?;
            }
            left += left_segment;
        }
        if left > 0 {
            self.compact()?;
            self.shrink();
        }
        Ok(left)
    }

    /// Whether there is anything to look at more closely.
    fn has_leaving(&self, eviction: Eviction) -> bool {
        let is_old = |segment: &RowSegment| {
            let before = eviction.changed_before;
            segment.live_rows().any(|row| before.is_some_and(|it| segment.changed_at[row] < it))
        };
        eviction.surplus > 0
            || self.deleted.iter().any(|delete| delete.at < eviction.deleted_before)
            || (eviction.changed_before.is_some() && self.segments.iter().any(is_old))
    }

    /// Takes the deletes out that are old enough. Those of keys that came back are forgotten.
    fn let_deletes_go(&mut self, eviction: Eviction, in_flight: &HashSet<KeyBytes>) {
        let Self { entries, dirty, deleted, .. } = self;
        deleted.retain(|delete| {
            let is_its_last =
                |entry: &&KeyEntry| entry.slot.is_none() && entry.last.position == delete.position;
            if entries.get(&delete.key).filter(is_its_last).is_none() {
                return false;
            }
            let stays = delete.at >= eviction.deleted_before
                || in_flight.contains(&delete.key)
                || dirty.contains(&delete.key);
            if !stays {
                entries.remove(&delete.key);
            }
            stays
        });
    }

    /// Takes some rows of a segment out.
    fn let_rows_go(
        &mut self,
        segment: usize,
        rows: &[u32],
        in_flight: &HashSet<KeyBytes>,
    ) -> Result<usize, ArrowError> {
        let all =
            take_record_batch(&self.segments[segment].batch, &UInt32Array::from(rows.to_vec()))?;
        let (mut keys, mut places): (Vec<KeyBytes>, Vec<u32>) = (Vec::new(), Vec::new());
        for (at, key) in self.keys.encode(&all)?.iter().enumerate() {
            let key = key.as_ref();
            if !in_flight.contains(key) && !self.dirty.contains(key) {
                keys.push(key.into());
                places.push(at as u32);
            }
        }
        let leaving = take_record_batch(&all, &UInt32Array::from(places))?;
        let mut slots: Vec<Slot> = Vec::with_capacity(keys.len());
        for key in &keys {
            let Some(slot) = self.entries.remove(key).and_then(|entry| entry.slot) else {
                continue;
            };
            self.kill(self.slots.place(slot));
            slots.push(slot);
        }
        for index in &mut self.indexes {
            index.remove(&leaving, &slots)?;
        }
        if let Some(groups) = &mut self.groups {
            for (group, slot) in groups.of(&leaving)?.iter().zip(&slots) {
                groups.remove(group.as_ref(), *slot);
            }
        }
        let left = slots.len();
        slots.into_iter().for_each(|slot| self.slots.give_back(slot));
        Ok(left)
    }

    /// Gives memory back that is kept for what has left.
    fn shrink(&mut self) {
        if self.entries.len() * 2 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len());
        }
        self.indexes.iter_mut().for_each(HashIndex::shrink);
        let empty = self.segments.iter().filter(|segment| segment.live_count() == 0).count();
        if empty > MOST_EMPTY {
            self.drop_empty_segments();
        }
    }

    /// Forgets the rows of some slots.
    pub(in crate::state) fn forget_slots(&mut self, slots: &[Slot]) -> Result<(), ArrowError> {
        let mut forgotten = DeltaBuilder::default();
        for key in &self.keys.encode(&self.rows_of(slots, &self.all_columns())?)? {
            let entry = self.entries.remove(key.as_ref());
            self.take_away(key.as_ref(), entry, &mut forgotten)?;
        }
        self.settle(forgotten)?;
        self.compact()
    }
}
