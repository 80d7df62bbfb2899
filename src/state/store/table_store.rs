use std::sync::Arc;

use arrow::array::{Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use super::StateError;
use super::blank::Blank;
use super::groups::Groups;
use super::index::{self, Index, Slot};
use super::keys::KeyEncoder;
use super::late::Forgotten;
use super::segment::Segment;
use super::slots::Slots;
use super::touched::Touched;
use super::unchanged;
use crate::model::{
    Changelog, KeyBytes, Operation, Position, Scn, SystemColumn, Table, TableDelta,
};

/// Where the newest row of a key is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) scn: Option<Scn>,
    /// `None`: deleted, and remembered so that an older change that comes late can't revive it.
    pub(super) slot: Option<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    // There is one for every row: 32 bits are enough for what fits into memory.
    segment: u32,
    row: u32,
}

impl Place {
    pub(super) fn new(segment: usize, row: usize) -> Self {
        Self { segment: segment as u32, row: row as u32 }
    }

    pub(super) fn segment(self) -> usize {
        self.segment as usize
    }

    pub(super) fn row(self) -> usize {
        self.row as usize
    }
}

/// The current rows of one source table.
#[derive(Debug)]
pub struct Store {
    pub(super) table: Arc<Table>,
    pub(super) schema: SchemaRef,
    pub(super) keys: KeyEncoder,
    pub(super) entries: HashMap<KeyBytes, Entry>,
    pub(super) slots: Slots,
    pub(super) segments: Vec<Segment>,
    pub(super) indexes: Vec<Index>,
    pub(super) deleted: Vec<Deleted>,
    pub(super) groups: Option<Groups>,
    live_rows: usize,
    /// The newest change that was folded.
    newest: Option<Position>,
    /// Changes up to here are undone by a truncate.
    pub(super) truncated: Option<Position>,
    pub(super) truncated_scn: Option<Scn>,
    has_dropped: bool,
    /// A key that is not in memory may be in the landing table all the same.
    pub(super) has_forgotten: bool,
    pub(super) forgotten: Forgotten,
    blank: Blank,
}

/// A key that is remembered as deleted, until [`Store`]'s entry for it may be forgotten.
#[derive(Debug)]
pub(super) struct Deleted {
    /// When the source deleted it, microseconds.
    pub(super) at: i64,
    pub(super) position: Position,
    pub(super) key: KeyBytes,
}

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

impl Store {
    /// # Errors
    /// If a key column has a type that Arrow can't turn into a row key.
    pub fn new(table: Arc<Table>) -> Result<Self, StateError> {
        let schema = table.schema();
        let encoder = |columns: &[usize]| {
            KeyEncoder::new(&schema, columns)
                .map_err(|source| StateError::Arrow { table: table.name.clone(), source })
        };
        let keys = encoder(&table.key)?;
        let groups = match table.options.group {
            Some(bound) => Some(Groups::new(encoder(&[bound.column])?)),
            None => None,
        };
        Ok(Self {
            table,
            schema,
            keys,
            entries: HashMap::new(),
            slots: Slots::default(),
            segments: Vec::new(),
            indexes: Vec::new(),
            deleted: Vec::new(),
            groups,
            live_rows: 0,
            newest: None,
            truncated: None,
            truncated_scn: None,
            has_dropped: false,
            has_forgotten: false,
            forgotten: Forgotten::default(),
            blank: Blank::default(),
        })
    }

    /// Leaves the values of all other columns out of memory, but for those that the store itself needs. To
    /// be called before anything is folded, and after all indexes are there.
    pub fn keep_columns(&mut self, read: &[usize]) {
        let options = &self.table.options;
        let is_needed = |at: &usize| {
            // Extracted rows are compared with those of a newer document, whole.
            options.extracted_from.is_some()
                || read.contains(at)
                || self.table.key.contains(at)
                || options.event_time == Some(*at)
                || options.group.is_some_and(|group| group.column == *at)
                || options.references.as_ref().is_some_and(|r| r.column == *at)
                || self.indexes.iter().any(|index| index.columns().contains(at))
        };
        self.blank =
            Blank::new((0..self.table.columns.len()).filter(|at| !is_needed(at)).collect());
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// How many rows are current.
    pub fn len(&self) -> usize {
        self.live_rows
    }

    pub fn is_empty(&self) -> bool {
        self.live_rows == 0
    }

    /// Whether ttl has dropped a row since the store was made: if not, a key that is not in memory
    /// is new to the source.
    pub fn has_dropped(&self) -> bool {
        self.has_dropped
    }

    /// Bytes that rows, keys and indexes take.
    pub fn memory(&self) -> usize {
        let rows: usize = self.segments.iter().map(|segment| segment.memory(&self.blank)).sum();
        let indexes: usize = self.indexes.iter().map(Index::memory).sum();
        let groups = self.groups.as_ref().map_or(0, Groups::memory);
        rows + indexes + groups + index::memory(&self.entries) + self.slots.memory()
    }

    /// The current rows, in no particular order.
    ///
    /// # Errors
    /// If Arrow can't filter a batch.
    pub fn rows(&self) -> Result<Vec<RecordBatch>, StateError> {
        let snapshots: Result<Vec<_>, ArrowError> =
            self.segments.iter().map(Segment::snapshot).collect();
        snapshots.map_err(|source| self.error(source))
    }

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
        let keys = self.keys.encode(&changelog.batch)?;
        let segment = self.segments.len();
        if !changelog.unchanged.is_empty() {
            unchanged::fill(&mut changelog, &keys, self)?;
        }
        let rows = self.declared(&changelog.batch)?;
        self.segments.push(Segment::new(rows, changed_at(&changelog)));
        self.live_rows += changelog.len();
        let group_keys = self.group_keys(segment)?;

        let mut touched = Touched::default();
        let (mut stale, mut trimmed, mut truncated) = (0, 0, 0);
        let mut truncations = changelog.truncations.iter().peekable();
        for row in 0..changelog.len() {
            let (key, position) = (keys.row(row), changelog.positions[row]);
            while let Some(older) = truncations.next_if(|t| t.position < position) {
                truncated += self.truncate(older, &mut touched)?;
            }
            let (key, place) = (key.as_ref(), Place::new(segment, row));
            let known = self.entries.get(key).copied();
            let newest = known.map(|entry| entry.position).max(self.truncated);
            if newest.is_some_and(|newest| newest >= position) {
                self.kill(place);
                stale += 1;
                continue;
            }
            self.take_away(key, known.and_then(|entry| entry.slot), &mut touched)?;
            if changelog.operations[row] == Operation::Delete {
                self.kill(place);
                let scn = changelog.scns[row];
                self.entries.insert(key.into(), Entry { position, scn, slot: None });
                let at = self.segments[segment].changed_at[row];
                self.deleted.push(Deleted { at, position, key: key.into() });
            } else {
                self.put(key, (position, changelog.scns[row]), place, &mut touched);
                if let Some(group_keys) = &group_keys
                    && !self.is_without_group(place)
                {
                    let group = group_keys.row(row);
                    trimmed += self.join_group(group.as_ref(), place, &mut touched)?;
                }
            }
        }
        for rest in truncations {
            truncated += self.truncate(rest, &mut touched)?;
        }
        self.newest = self.newest.max(changelog.positions.iter().max().copied());
        self.newest = self.newest.max(self.truncated);
        let delta = self.settle(touched)?;
        self.compact()?;
        Ok(Folded { changelog, delta, stale, trimmed, truncated })
    }

    /// The key's row, if it has one, is no longer the newest.
    pub(super) fn take_away(
        &mut self,
        key: &[u8],
        slot: Option<Slot>,
        touched: &mut Touched,
    ) -> Result<(), ArrowError> {
        if let Some(slot) = slot {
            self.forget_member(slot)?;
        }
        self.take_row(key, slot, touched);
        Ok(())
    }

    /// As [`Self::take_away`], and the groups don't matter.
    pub(super) fn take_row(&mut self, key: &[u8], slot: Option<Slot>, touched: &mut Touched) {
        let place = slot.map(|slot| self.slots.place(slot));
        touched.note(key, slot, place);
        if let Some(place) = place {
            self.kill(place);
        }
    }

    /// No row is missing that ttl has dropped.
    pub(super) fn forget_dropped(&mut self) {
        self.has_dropped = false;
        self.forgotten = Forgotten::default();
    }

    /// Makes a row the key's newest.
    fn put(
        &mut self,
        key: &[u8],
        (position, scn): (Position, Option<Scn>),
        place: Place,
        touched: &mut Touched,
    ) {
        let slot = touched.slot(key).unwrap_or_else(|| self.slots.take(place));
        self.slots.set(slot, place);
        touched.set_slot(key, slot);
        self.segments[place.segment()].slots[place.row()] = slot;
        self.entries.insert(key.into(), Entry { position, scn, slot: Some(slot) });
    }

    fn declared(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = batch.columns()[..self.table.columns.len()].to_vec();
        self.blank.apply(&self.schema, columns, batch.num_rows())
    }

    fn group_keys(&self, segment: usize) -> Result<Option<arrow::row::Rows>, ArrowError> {
        let rows = &self.segments[segment].batch;
        self.groups.as_ref().map(|groups| groups.of(rows)).transpose()
    }

    /// NULL is no value to share.
    fn is_without_group(&self, place: Place) -> bool {
        let column = self.table.options.group.map(|bound| bound.column);
        column.is_none_or(|at| self.segments[place.segment()].batch.column(at).is_null(place.row()))
    }

    /// Adds a row that is in its place to its group; how many rows leave memory for it.
    fn join_group(
        &mut self,
        group: &[u8],
        place: Place,
        touched: &mut Touched,
    ) -> Result<usize, ArrowError> {
        let bound = self.table.options.group;
        let (Some(groups), Some(bound)) = (&mut self.groups, bound) else { return Ok(0) };
        let slot = self.segments[place.segment()].slots[place.row()];
        if groups.add(group, slot) <= bound.limit {
            return Ok(0);
        }
        groups.note_cut(group);
        self.has_forgotten = true;
        let mut members = self.members(group)?;
        members.truncate(members.len().saturating_sub(bound.keep));
        for (_, key, slot) in &members {
            self.entries.remove(key);
            if let Some(groups) = &mut self.groups {
                groups.remove(group, *slot);
            }
            self.take_row(key, Some(*slot), touched);
        }
        Ok(members.len())
    }

    /// The members of a group, the oldest first.
    fn members(&self, group: &[u8]) -> Result<Vec<(Position, KeyBytes, Slot)>, ArrowError> {
        let slots = self.groups.as_ref().map(|groups| groups.members(group)).unwrap_or_default();
        let places: Vec<Place> = slots.iter().map(|slot| self.slots.place(*slot)).collect();
        let keys = self.rows_at(&places, &self.table.key)?;
        let keys = self.keys.encode_columns(keys.columns())?;
        let member = |(key, slot): (arrow::row::Row<'_>, Slot)| {
            let entry = self.entries.get(key.as_ref())?;
            Some((entry.position, key.as_ref().into(), slot))
        };
        let mut members: Vec<_> = keys.iter().zip(slots).filter_map(member).collect();
        members.sort_unstable();
        Ok(members)
    }

    fn forget_member(&mut self, slot: Slot) -> Result<(), ArrowError> {
        let Some(groups) = &mut self.groups else { return Ok(()) };
        let place = self.slots.place(slot);
        let row = self.segments[place.segment()].batch.slice(place.row(), 1);
        let group = groups.of(&row)?;
        groups.remove(group.row(0).as_ref(), slot);
        Ok(())
    }

    /// Fills the cells of unchanged LOBs of changes that are landed and not folded.
    pub(super) fn fill_unchanged(&self, changelog: &mut Changelog) -> Result<(), StateError> {
        let keys = self.keys.encode(&changelog.batch).map_err(|source| self.error(source))?;
        unchanged::fill(changelog, &keys, self).map_err(|source| self.error(source))
    }

    /// Takes a key out of memory, as ttl does; `settle` must follow.
    pub(super) fn drop_row(&mut self, key: &[u8], touched: &mut Touched) -> Result<(), ArrowError> {
        (self.has_dropped, self.has_forgotten) = (true, true);
        let slot = self.entries.remove(key).and_then(|entry| entry.slot);
        if self.table.options.event_time.is_some()
            && let Some(slot) = slot
        {
            self.forgotten.note(self.event_time(self.slots.place(slot)));
        }
        self.take_away(key, slot, touched)
    }

    /// The newest change that was folded.
    pub(super) fn newest(&self) -> Option<Position> {
        self.newest
    }

    fn kill(&mut self, place: Place) {
        self.segments[place.segment()].kill(place.row());
        self.live_rows -= 1;
    }

    /// Merges the newest segments while they are of similar size, and rewrites mostly dead ones, so
    /// that a scan reads few segments and work per change stays logarithmic.
    pub(super) fn compact(&mut self) -> Result<(), ArrowError> {
        while let [.., older, newer] = self.segments.as_slice() {
            if newer.live_count() * 2 < older.live_count() {
                break;
            }
            let at = self.segments.len() - 2;
            let merged = Segment::merge(&self.segments[at..], &mut self.blank)?;
            self.segments.truncate(at);
            self.segments.push(merged);
            self.relocate(at);
        }
        for at in 0..self.segments.len() {
            if self.segments[at].is_mostly_dead() {
                let rewritten = Segment::merge(&self.segments[at..=at], &mut self.blank)?;
                self.segments[at] = rewritten;
                self.relocate(at);
            }
        }
        Ok(())
    }

    /// Points the slots of a rewritten segment's rows to their new places.
    fn relocate(&mut self, segment: usize) {
        for (row, slot) in self.segments[segment].slots.iter().enumerate() {
            self.slots.set(*slot, Place::new(segment, row));
        }
    }

    /// Where the newest row of a key is; `None` if it was deleted.
    pub(super) fn place(&self, entry: &Entry) -> Option<Place> {
        entry.slot.map(|slot| self.slots.place(slot))
    }

    pub(super) fn error(&self, source: ArrowError) -> StateError {
        StateError::Arrow { table: self.table.name.clone(), source }
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
