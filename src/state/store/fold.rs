//! How changes fold into the rows: per key the highest position wins.

use arrow::array::{Array, RecordBatch, TimestampMicrosecondArray};
use arrow::error::ArrowError;

use super::delta_builder::DeltaBuilder;
use super::past::RememberedDelete;
use super::place::{KeyEntry, LastChange, RowPlace};
use super::segment::RowSegment;
use super::table_store::TableStore;
use crate::model::{Changelog, Operation, SystemColumn, TableDelta};
use crate::state::error::StateError;

/// Bytes of a segment that is merged of others: so much is copied at once, and given back when its rows leave memory.
const MOST_MERGED: usize = 32 << 20;

/// What a fold did.
#[derive(Debug)]
pub struct Folded {
    /// The changes as they are to be landed: unchanged LOB cells filled with their old values.
    pub changelog: Changelog,
    /// How the current rows differ from before.
    pub delta: TableDelta,
    /// Changes older than what the store held for their key.
    pub stale: usize,
    /// Rows that left memory because their group grew beyond its bound.
    pub trimmed: usize,
    /// Rows that truncates took away.
    pub truncated: usize,
}

impl TableStore {
    /// Applies changes in their order; per key the highest position wins.
    ///
    /// A row that makes its group larger than its bound leaves the newest ones of the group; the
    /// others leave memory without a trace, as if they had been deleted. A later change of one of
    /// them brings it back as the newest of its group, because its event carries the whole row.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn fold(&mut self, changelog: Changelog) -> Result<Folded, StateError> {
        self.apply(changelog).map_err(|source| self.error(source))
    }

    fn apply(&mut self, mut changelog: Changelog) -> Result<Folded, ArrowError> {
        self.fill_cells(&mut changelog)?;
        let keys = self.keys.encode(&changelog.batch)?;
        let segment = self.segments.len();
        let deleted = self.last_deleted(&changelog, &keys)?;
        let rows = self.declared(&changelog.batch)?;
        self.segments.push(RowSegment::new(rows, changed_at(&changelog)));
        self.live_rows += changelog.len();
        let group_keys = self.group_keys(segment)?;

        let mut touched = DeltaBuilder::default();
        let (mut stale, mut trimmed, mut truncated) = (0, 0, 0);
        let mut truncations = changelog.truncations.iter().peekable();
        for row in 0..changelog.len() {
            let (key, position) = (keys.row(row), changelog.positions[row]);
            while let Some(older) = truncations.next_if(|t| t.position < position) {
                truncated += self.truncate(older, &mut touched)?;
            }
            let (key, place) = (key.as_ref(), RowPlace::new(segment, row));
            let known = self.entries.get(key).copied();
            if self.newest_of(known.as_ref()).is_some_and(|newest| newest >= position) {
                self.kill(place);
                stale += 1;
                continue;
            }
            self.take_away(key, known, &mut touched)?;
            let last = LastChange { position, scn: changelog.scns[row] };
            if changelog.operations[row] == Operation::Delete {
                self.delete(key, last, place);
                continue;
            }
            self.put(key, last, place, &mut touched);
            if let Some(group_keys) = &group_keys
                && !self.is_without_group(place)
            {
                let group = group_keys.row(row);
                trimmed += self.join_group(group.as_ref(), place, &mut touched)?;
            }
        }
        for rest in truncations {
            truncated += self.truncate(rest, &mut touched)?;
        }
        if changelog.positions.last().copied() > self.newest {
            self.last_deleted = deleted;
        }
        self.newest = self.newest.max(changelog.positions.iter().max().copied());
        self.newest = self.newest.max(self.truncated_at());
        let delta = self.settle(touched)?;
        self.compact()?;
        Ok(Folded { changelog, delta, stale, trimmed, truncated })
    }

    /// The key's row, if it has one, is no longer the newest.
    pub(super) fn take_away(
        &mut self,
        key: &[u8],
        entry: Option<KeyEntry>,
        touched: &mut DeltaBuilder,
    ) -> Result<(), ArrowError> {
        if let Some(slot) = entry.and_then(|entry| entry.slot) {
            self.forget_member(slot)?;
        }
        self.take_row(key, entry, touched);
        Ok(())
    }

    /// As [`Self::take_away`], and the groups don't matter.
    pub(super) fn take_row(
        &mut self,
        key: &[u8],
        entry: Option<KeyEntry>,
        touched: &mut DeltaBuilder,
    ) {
        let place = entry.and_then(|entry| self.place(&entry));
        touched.note(key, entry, place);
        if let Some(place) = place {
            self.kill(place);
        }
    }

    /// Remembers a key as deleted; `place` is that of the change.
    fn delete(&mut self, key: &[u8], last: LastChange, place: RowPlace) {
        self.kill(place);
        self.entries.insert(key.into(), KeyEntry { last, slot: None });
        let at = self.segments[place.segment()].changed_at[place.row()];
        self.deleted.push(RememberedDelete { at, position: last.position, key: key.into() });
    }

    /// Makes a row the key's newest.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        last: LastChange,
        place: RowPlace,
        touched: &mut DeltaBuilder,
    ) {
        let slot = touched.slot(key).unwrap_or_else(|| self.slots.take(place));
        self.slots.set(slot, place);
        touched.set_slot(key, slot);
        self.segments[place.segment()].slots[place.row()] = slot;
        self.entries.insert(key.into(), KeyEntry { last, slot: Some(slot) });
    }

    fn declared(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = batch.columns()[..self.table.columns.len()].to_vec();
        self.pruned.apply(&self.schema, columns, batch.num_rows())
    }

    pub(super) fn kill(&mut self, place: RowPlace) {
        self.segments[place.segment()].kill(place.row());
        self.live_rows -= 1;
    }

    /// Merges the newest segments while they are of similar size, and rewrites mostly dead ones, so
    /// that a scan reads few segments and work per change stays logarithmic.
    pub(super) fn compact(&mut self) -> Result<(), ArrowError> {
        while let [.., older, newer] = self.segments.as_slice() {
            let is_smaller = newer.live_count() * 2 < older.live_count();
            let merged = older.memory(&self.pruned) + newer.memory(&self.pruned);
            if is_smaller || merged > MOST_MERGED {
                break;
            }
            let at = self.segments.len() - 2;
            let merged = RowSegment::merge(&self.segments[at..], &mut self.pruned)?;
            self.segments.truncate(at);
            self.segments.push(merged);
            self.relocate(at);
        }
        for at in 0..self.segments.len() {
            if self.segments[at].is_mostly_dead() {
                self.rewrite(at)?;
            }
        }
        Ok(())
    }

    /// Takes the dead out of a segment.
    pub(super) fn rewrite(&mut self, at: usize) -> Result<(), ArrowError> {
        self.segments[at] = RowSegment::merge(&self.segments[at..=at], &mut self.pruned)?;
        self.relocate(at);
        Ok(())
    }

    pub(super) fn drop_empty_segments(&mut self) {
        self.segments.retain(|segment| segment.live_count() > 0);
        (0..self.segments.len()).for_each(|at| self.relocate(at));
    }

    /// Points the slots of a rewritten segment's rows to their new places.
    fn relocate(&mut self, segment: usize) {
        for (row, slot) in self.segments[segment].slots.iter().enumerate() {
            self.slots.set(*slot, RowPlace::new(segment, row));
        }
    }
}

/// When the source made each change; a change without a time counts as new.
fn changed_at(changelog: &Changelog) -> Vec<i64> {
    let column = changelog.table.system_column(SystemColumn::SourceTs);
    let times = changelog.batch.column(column).as_any().downcast_ref::<TimestampMicrosecondArray>();
    let times = times.expect("the changelog schema declares source_ts as timestamp");
    (0..times.len())
        .map(|row| if times.is_null(row) { i64::MAX } else { times.value(row) })
        .collect()
}
