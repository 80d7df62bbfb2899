//! The rows of one table: what is kept of them, and how other parts of the state read it.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::Rows;
use hashbrown::{HashMap, HashSet};

use super::index::{Groups, HashIndex, KeyEncoder, map_memory};
use super::on_disk::DiskTable;
use super::past::{DeletedRow, EpochUndo, RememberedDelete};
use super::place::{KeyEntry, LastChange, RowPlace, Slot, Slots};
use super::pruned_columns::PrunedColumns;
use super::segment::RowSegment;
use crate::model::{EpochLog, KeyBytes, Position, Table};
use crate::state::error::StateError;

/// The current rows of one source table.
#[derive(Debug)]
pub struct TableStore {
    pub(super) table: Arc<Table>,
    pub(super) schema: SchemaRef,
    pub(super) keys: KeyEncoder,
    pub(super) entries: HashMap<KeyBytes, KeyEntry>,
    pub(super) slots: Slots,
    pub(super) segments: Vec<RowSegment>,
    pub(super) indexes: Vec<HashIndex>,
    pub(super) deleted: Vec<RememberedDelete>,
    pub(super) groups: Option<Groups>,
    pub(super) live_rows: usize,
    /// The newest change that was folded.
    pub(super) newest: Option<Position>,
    /// Changes up to here are undone by a truncate.
    pub(super) truncated: Option<LastChange>,
    /// What the newest change has deleted, if it has.
    pub(super) last_deleted: Option<DeletedRow>,
    /// A key that is not known may be in the landing table all the same: the bound of its group has cut it.
    pub(super) has_forgotten: bool,
    pub(super) pruned: PrunedColumns,
    /// What may not be in memory; `None`: all is.
    pub(super) disk: Option<DiskTable>,
    /// The mark on disk names its rows.
    pub(super) is_marked: bool,
    /// Keys that committed epochs have changed since the last flush.
    pub(super) dirty: HashSet<KeyBytes>,
    /// Keys that are being written.
    pub(super) flushing: Vec<KeyBytes>,
    /// What takes epochs back.
    pub(super) undo: EpochLog<EpochUndo>,
}

impl TableStore {
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
            last_deleted: None,
            has_forgotten: false,
            pruned: PrunedColumns::default(),
            disk: None,
            is_marked: false,
            dirty: HashSet::new(),
            flushing: Vec::new(),
            undo: EpochLog::default(),
        })
    }

    /// Leaves the values of all other columns out of memory, but for those that the store itself needs. To
    /// be called before anything is folded, and after all indexes are there.
    pub fn keep_columns(&mut self, read: &[usize]) {
        let options = &self.table.options;
        let is_needed = |at: &usize| {
            // Extracted rows are compared with those of a newer document, whole.
            self.table.is_extracted()
                || read.contains(at)
                || self.table.key.contains(at)
                || options.event_time == Some(*at)
                || options.group.is_some_and(|group| group.column == *at)
                || options.references.as_ref().is_some_and(|r| r.column == *at)
                || self.indexes.iter().any(|index| index.columns().contains(at))
        };
        self.pruned =
            PrunedColumns::new((0..self.table.columns.len()).filter(|at| !is_needed(at)).collect());
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// How many rows are in memory.
    pub fn len(&self) -> usize {
        self.live_rows
    }

    pub fn is_empty(&self) -> bool {
        self.live_rows == 0
    }

    /// Bytes that rows, keys and indexes take.
    pub fn memory(&self) -> usize {
        let rows: usize = self.segments.iter().map(|segment| segment.memory(&self.pruned)).sum();
        let indexes: usize = self.indexes.iter().map(HashIndex::memory).sum();
        let groups = self.groups.as_ref().map_or(0, Groups::memory);
        rows + indexes + groups + map_memory(&self.entries) + self.slots.memory()
    }

    /// The current rows, in no particular order.
    ///
    /// # Errors
    /// If Arrow can't filter a batch.
    pub fn rows(&self) -> Result<Vec<RecordBatch>, StateError> {
        let mut batches = Vec::new();
        let scanned = self.scan(&mut |batch| {
            batches.push(batch);
            Ok(())
        });
        scanned.map_err(|source| self.error(source))?;
        Ok(batches)
    }

    /// The current rows: a batch per segment, and those on disk in parts.
    pub(in crate::state) fn scan(
        &self,
        visit: &mut dyn FnMut(RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<(), ArrowError> {
        for segment in &self.segments {
            visit(segment.snapshot()?)?;
        }
        self.scan_disk(visit)
    }

    /// The batches that places are in; some of their rows are no longer current.
    pub(in crate::state) fn batches(&self) -> impl Iterator<Item = &RecordBatch> {
        self.segments.iter().map(|segment| &segment.batch)
    }

    pub(in crate::state) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The positions of all columns.
    pub(in crate::state) fn all_columns(&self) -> Vec<usize> {
        (0..self.schema.fields().len()).collect()
    }

    /// The keys of rows whose first columns are those of the table.
    pub(in crate::state) fn encode(&self, rows: &RecordBatch) -> Result<Rows, ArrowError> {
        self.keys.encode(rows)
    }

    /// The keys that are in these columns, in the order of the table's key.
    pub(in crate::state) fn encode_columns(&self, key: &[ArrayRef]) -> Result<Rows, ArrowError> {
        self.keys.encode_columns(key)
    }

    /// What is known of a key, deleted ones included.
    pub(in crate::state) fn entry(&self, key: &[u8]) -> Option<&KeyEntry> {
        self.entries.get(key)
    }

    /// All keys with a known version.
    pub(in crate::state) fn known_keys(&self) -> impl Iterator<Item = &KeyBytes> {
        self.entries.keys()
    }

    /// The position of the newest change of a key.
    pub(in crate::state) fn position(&self, key: &[u8]) -> Option<Position> {
        self.entries.get(key).map(|entry| entry.last.position)
    }

    /// The position up to which changes of a key are stale: its newest change, or a truncate.
    pub(in crate::state) fn newest_of(&self, entry: Option<&KeyEntry>) -> Option<Position> {
        entry.map(|entry| entry.last.position).max(self.truncated_at())
    }

    /// The newest truncate.
    pub(in crate::state) fn truncated(&self) -> Option<LastChange> {
        self.truncated
    }

    pub(in crate::state) fn truncated_at(&self) -> Option<Position> {
        self.truncated.map(|truncated| truncated.position)
    }

    /// Where the row of an entry is; `None` if it was deleted.
    pub(in crate::state) fn place(&self, entry: &KeyEntry) -> Option<RowPlace> {
        entry.slot.map(|slot| self.slots.place(slot))
    }

    /// Where the row of a key is, if it has one.
    pub(in crate::state) fn place_of(&self, key: &[u8]) -> Option<RowPlace> {
        self.entries.get(key).and_then(|entry| self.place(entry))
    }

    /// Some columns of the rows at some places.
    pub(in crate::state) fn rows_at(
        &self,
        places: &[RowPlace],
        columns: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        let schema = self.schema.project(columns)?.into();
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        let pairs: Vec<(usize, usize)> = places.iter().map(|place| place.pair()).collect();
        let column = |column: &usize| {
            let segments: Vec<_> =
                self.batches().map(|batch| batch.column(*column).as_ref()).collect();
            interleave(&segments, &pairs)
        };
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let columns = columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new_with_options(schema, columns, &options)
    }

    /// Some columns of the rows of some slots.
    pub(in crate::state) fn rows_of(
        &self,
        slots: &[Slot],
        columns: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        let places: Vec<RowPlace> = slots.iter().map(|slot| self.slots.place(*slot)).collect();
        self.rows_at(&places, columns)
    }

    /// A key that is not known may be in the landing table all the same.
    pub(in crate::state) fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    #[cfg(test)]
    pub(in crate::state) fn remembered_deletes(&self) -> usize {
        self.deleted.len()
    }

    pub(in crate::state) fn error(&self, source: ArrowError) -> StateError {
        StateError::Arrow { table: self.table.name.clone(), source }
    }
}
