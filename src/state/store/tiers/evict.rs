//! Which rows leave memory for the disk, and which keys that are remembered as deleted.

use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use hashbrown::HashSet;

use crate::model::KeyBytes;
use crate::state::disk::Engine;
use crate::state::error::StateError;
use crate::state::store::delta_builder::DeltaBuilder;
use crate::state::store::index::HashIndex;
use crate::state::store::on_disk::{DiskTable, LeavingKey, LeavingRows};
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

    /// Takes the rows on disk away.
    ///
    /// # Errors
    /// If the disk can't be written.
    pub(in crate::state) fn clear_disk(&self) -> Result<(), StateError> {
        self.disk.as_ref().map_or(Ok(()), |disk| Ok(disk.clear()?))
    }

    /// Says where rows go that leave memory. Indexes are there by now.
    ///
    /// # Errors
    /// If Arrow has no row format for a column.
    pub(in crate::state) fn use_disk(
        &mut self,
        engine: &Arc<Engine>,
        number: u16,
    ) -> Result<(), StateError> {
        if self.disk.is_none() {
            let group = self.table.options.group.map(|bound| [bound.column]);
            let mut indexes: Vec<&[usize]> = self.indexes.iter().map(|it| it.columns()).collect();
            indexes.extend(group.iter().map(|column| &column[..]));
            let disk = DiskTable::new(Arc::clone(engine), number, &self.schema, &indexes);
            self.disk = Some(disk.map_err(|source| self.error(source))?);
        }
        Ok(())
    }

    /// Moves rows and deletes to the disk, but for those that an epoch has changed which may still be taken back;
    /// how many rows.
    ///
    /// # Errors
    /// If the disk can't be written; what has not left stays in memory.
    pub(in crate::state) fn evict(&mut self, eviction: Eviction) -> Result<usize, StateError> {
        self.move_out(eviction).map_err(|source| self.error(source))
    }

    fn move_out(&mut self, eviction: Eviction) -> Result<usize, ArrowError> {
        if !self.has_leaving(eviction) {
            return Ok(0);
        }
        let in_flight: HashSet<KeyBytes> =
            self.undo.iter().flat_map(|epoch| epoch.keys()).cloned().collect();
        let deleted = self.leaving_deletes(eviction, &in_flight);
        if !deleted.is_empty() {
            self.move_deletes_out(deleted)?;
        }
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
                left_segment += self.move_rows_out(at, part, &in_flight)?;
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
    fn leaving_deletes(
        &mut self,
        eviction: Eviction,
        in_flight: &HashSet<KeyBytes>,
    ) -> Vec<LeavingKey> {
        let (entries, mut leaving) = (&self.entries, Vec::new());
        self.deleted.retain(|delete| {
            let entry = entries.get(&delete.key);
            let is_its_last =
                |entry: &&KeyEntry| entry.slot.is_none() && entry.last.position == delete.position;
            let last = entry.filter(is_its_last);
            let Some(last) = last.map(|entry| entry.last) else { return false };
            let is_old = delete.at < eviction.deleted_before && !in_flight.contains(&delete.key);
            if is_old {
                leaving.push(LeavingKey { key: delete.key.clone(), last, changed_at: delete.at });
            }
            !is_old
        });
        leaving
    }

    fn move_deletes_out(&mut self, deleted: Vec<LeavingKey>) -> Result<(), ArrowError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let rows = self.rows_at(&[], &self.all_columns())?;
        let leaving = LeavingRows { keys: Vec::new(), rows, deleted };
        disk.write(&leaving)?;
        for LeavingKey { key, .. } in &leaving.deleted {
            self.entries.remove(key);
            self.dirty.remove(key);
        }
        Ok(())
    }

    /// Moves some rows of a segment to the disk.
    fn move_rows_out(
        &mut self,
        segment: usize,
        rows: &[u32],
        in_flight: &HashSet<KeyBytes>,
    ) -> Result<usize, ArrowError> {
        let Some(disk) = &self.disk else { return Ok(0) };
        let changed_at = &self.segments[segment].changed_at;
        let all =
            take_record_batch(&self.segments[segment].batch, &UInt32Array::from(rows.to_vec()))?;
        let (mut keys, mut places) = (Vec::new(), Vec::new());
        for (at, key) in self.keys.encode(&all)?.iter().enumerate() {
            let Some(entry) = self.entries.get(key.as_ref()) else { continue };
            if !in_flight.contains(key.as_ref()) {
                let changed_at = changed_at[rows[at] as usize];
                keys.push(LeavingKey { key: key.as_ref().into(), last: entry.last, changed_at });
                places.push(at as u32);
            }
        }
        let rows = take_record_batch(&all, &UInt32Array::from(places))?;
        let leaving = LeavingRows { keys, rows, deleted: Vec::new() };
        disk.write(&leaving)?;
        let mut slots: Vec<Slot> = Vec::with_capacity(leaving.keys.len());
        for LeavingKey { key, .. } in &leaving.keys {
            self.dirty.remove(key);
            let Some(slot) = self.entries.remove(key).and_then(|entry| entry.slot) else {
                continue;
            };
            self.kill(self.slots.place(slot));
            slots.push(slot);
        }
        for index in &mut self.indexes {
            index.remove(&leaving.rows, &slots)?;
        }
        if let Some(groups) = &mut self.groups {
            for (group, slot) in groups.of(&leaving.rows)?.iter().zip(&slots) {
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
