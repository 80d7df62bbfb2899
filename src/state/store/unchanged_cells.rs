//! Fills the cells that an event did not carry (an unchanged LOB) with the row's old values.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{interleave, take_record_batch};
use arrow::error::ArrowError;
use arrow::row::{Row, Rows};
use hashbrown::{HashMap, HashSet};

use super::past::DeletedRow;
use super::place::RowPlace;
use super::table_store::TableStore;
use crate::model::{Cell, Changelog, Offset, Operation, Position};
use crate::state::error::StateError;

impl TableStore {
    /// Fills the cells of unchanged LOBs of changes that are landed and not folded.
    pub(in crate::state) fn fill_unchanged(
        &self,
        changelog: &mut Changelog,
    ) -> Result<(), StateError> {
        self.fill_cells(changelog).map_err(|source| self.error(source))
    }

    /// Replaces every unchanged cell by the value that the row had before.
    ///
    /// The row before is the newest one that the store or an earlier row of the batch has. A cell
    /// keeps NULL if its value is not known: there is no row before, it was deleted or truncated,
    /// its own cell is not known either, or it is newer than the row at hand. Such cells stay listed.
    ///
    /// A row that got a new key takes the values that it had under the old one. These cells are not
    /// listed any more: no earlier change of the new key has landed them.
    pub(super) fn fill_cells(&self, changelog: &mut Changelog) -> Result<(), ArrowError> {
        if changelog.unchanged.is_empty() {
            return Ok(());
        }
        let keys = self.keys.encode(&changelog.batch)?;
        for (column, unchanged) in by_column(changelog) {
            let filling = Filling { store: self, changelog, keys: &keys, column };
            let sources = filling.sources(&unchanged);
            let filled = filling.interleave(&sources)?;
            changelog.batch = with_column(&changelog.batch, column, filled)?;
            if !self.pruned.has(column) {
                let is_moved = |cell: &Cell| sources[cell.row].is_some_and(|it| it.is_moved);
                changelog.unchanged.retain(|cell| cell.column != column || !is_moved(cell));
            }
        }
        Ok(())
    }

    /// The events of rows that got a new key, with an unchanged LOB that a query reads and whose value under the
    /// old key is not known; each with the column. To be asked before anything of the changelog is folded.
    pub(in crate::state) fn unknown_cells(
        &self,
        changelog: &Changelog,
    ) -> Result<Vec<(Offset, usize)>, ArrowError> {
        let mut unknown = Vec::new();
        if changelog.unchanged.is_empty() {
            return Ok(unknown);
        }
        let keys = self.keys.encode(&changelog.batch)?;
        for (column, unchanged) in by_column(changelog) {
            if self.pruned.has(column) {
                continue;
            }
            let filling = Filling { store: self, changelog, keys: &keys, column };
            let sources = filling.sources(&unchanged);
            let unknown_rows = (0..changelog.len()).filter(|row| sources[*row].is_none());
            let of_moved = unknown_rows.filter(|row| filling.has_new_key(*row));
            unknown.extend(of_moved.map(|row| (changelog.offsets[row], column)));
        }
        Ok(unknown)
    }

    /// The row that the last change of the changelog is about to delete; `None` if it deletes none.
    pub(super) fn last_deleted(
        &self,
        changelog: &Changelog,
        keys: &Rows,
    ) -> Result<Option<DeletedRow>, ArrowError> {
        let Some(row) = changelog.len().checked_sub(1) else { return Ok(None) };
        if changelog.operations[row] != Operation::Delete || !changelog.truncations.is_empty() {
            return Ok(None);
        }
        let (key, all) = (keys.row(row), self.all_columns());
        let values = match (0..row).rev().find(|at| keys.row(*at) == key) {
            Some(at) if changelog.operations[at] == Operation::Delete => None,
            Some(at) => {
                let rows = changelog.batch.project(&all)?;
                Some(take_record_batch(&rows, &UInt64Array::from(vec![at as u64]))?)
            }
            None => self.place_of(key.as_ref()).map(|at| self.rows_at(&[at], &all)).transpose()?,
        };
        let (position, scn) = (changelog.positions[row], changelog.scns[row]);
        Ok(Some(DeletedRow { position, scn, values }))
    }
}

/// The rows with an unchanged cell, by column.
fn by_column(changelog: &Changelog) -> Vec<(usize, HashSet<usize>)> {
    let mut by_column: HashMap<usize, HashSet<usize>> = HashMap::new();
    for Cell { row, column } in &changelog.unchanged {
        by_column.entry(*column).or_default().insert(*row);
    }
    let mut columns: Vec<_> = by_column.into_iter().collect();
    columns.sort_unstable_by_key(|(column, _)| *column);
    columns
}

/// Where to copy a cell from: the segments of the store come first, then the batch, then the row that was
/// deleted last.
#[derive(Debug, Clone, Copy)]
struct CellSource {
    at: (usize, usize),
    /// It is the value under another key.
    is_moved: bool,
}

/// The newest row of a key before the one at hand.
#[derive(Debug, Clone, Copy)]
struct RowBefore {
    position: Position,
    /// `None` if the value is not known.
    source: Option<(usize, usize)>,
}

/// One column of a changelog.
struct Filling<'a> {
    store: &'a TableStore,
    changelog: &'a Changelog,
    keys: &'a Rows,
    column: usize,
}

impl<'a> Filling<'a> {
    /// The number of the batch among the arrays.
    fn this_batch(&self) -> usize {
        self.store.segments.len()
    }

    fn interleave(&self, sources: &[Option<CellSource>]) -> Result<ArrayRef, ArrowError> {
        let this_batch = self.changelog.batch.column(self.column).as_ref();
        let stored = self.store.batches().map(|batch| batch.column(self.column).as_ref());
        let deleted = self.store.last_deleted.as_ref().and_then(|row| row.values.as_ref());
        let deleted = deleted.map(|values| values.column(self.column).as_ref());
        let arrays: Vec<&dyn Array> = stored.chain([this_batch]).chain(deleted).collect();
        // An unknown cell is its own source: it is NULL.
        let own = |row| (self.this_batch(), row);
        let filled: Vec<(usize, usize)> = (0..self.changelog.len())
            .map(|row| sources[row].map_or(own(row), |source| source.at))
            .collect();
        interleave(&arrays, &filled)
    }

    /// Per row of the changelog: where its value is; `None` if it is not known.
    fn sources(&self, unchanged: &HashSet<usize>) -> Vec<Option<CellSource>> {
        let changelog = self.changelog;
        let column = changelog.batch.column(self.column);
        let mut newest: HashMap<Row<'a>, RowBefore> = HashMap::new();
        let mut sources: Vec<Option<CellSource>> = Vec::with_capacity(changelog.len());
        // The value of the row that the change before this one deleted.
        let mut deleted = self.deleted_before();
        for row in 0..changelog.len() {
            let (key, position) = (self.keys.row(row), changelog.positions[row]);
            let before = self.before(&newest, &key, position);
            let is_newer = before.is_none_or(|before| before.position < position);
            let old = before.filter(|_| is_newer).and_then(|before| before.source);
            let is_delete = changelog.operations[row] == Operation::Delete;
            let source = if !unchanged.contains(&row) {
                Some(CellSource { at: (self.this_batch(), row), is_moved: false })
            } else if self.follows_its_delete(row) {
                deleted.map(|at| CellSource { at, is_moved: true })
            } else {
                old.map(|at| CellSource { at, is_moved: false })
            };
            sources.push(source);
            let is_carried = !unchanged.contains(&row) && column.is_valid(row);
            deleted = old.or(is_carried.then_some((self.this_batch(), row))).filter(|_| is_delete);
            if is_newer {
                // What comes back after a delete is a new row.
                let source = source.filter(|_| !is_delete).map(|source| source.at);
                newest.insert(key, RowBefore { position, source });
            }
        }
        sources
    }

    fn before(
        &self,
        newest: &HashMap<Row<'a>, RowBefore>,
        key: &Row<'a>,
        position: Position,
    ) -> Option<RowBefore> {
        let stored = || {
            let entry = self.store.entry(key.as_ref())?;
            let source = self.store.place(entry).map(RowPlace::pair);
            Some(RowBefore { position: entry.last.position, source })
        };
        let truncated = newest_before(self.changelog, self.store.truncated_at(), position);
        let before = newest.get(key).copied().or_else(stored);
        before.filter(|before| truncated.is_none_or(|at| at < before.position))
    }

    fn deleted_before(&self) -> Option<(usize, usize)> {
        let deleted = self.store.last_deleted.as_ref()?;
        deleted.values.as_ref().map(|_| (self.this_batch() + 1, 0))
    }

    /// Whether the change before this one has deleted the row under its old key: an event that changes a key is
    /// two rows, and Debezium may send it as a delete and the create that follows.
    fn follows_its_delete(&self, row: usize) -> bool {
        let changelog = self.changelog;
        let deleted = match row.checked_sub(1) {
            Some(at) => (changelog.operations[at] == Operation::Delete)
                .then(|| (changelog.positions[at], changelog.scns[at])),
            None => self.store.last_deleted.as_ref().map(|row| (row.position, row.scn)),
        };
        let own = changelog.positions[row];
        deleted.is_some_and(|(position, scn)| match changelog.operations[row] {
            Operation::Create => position == own || scn == changelog.scns[row],
            Operation::Update => position == own,
            Operation::Read | Operation::Delete => false,
        })
    }

    /// Whether the row got its key by this change: a create carries all LOBs but those of a changed key.
    fn has_new_key(&self, row: usize) -> bool {
        self.changelog.operations[row] == Operation::Create || self.follows_its_delete(row)
    }
}

/// The newest of a changelog's truncations, and of those before it, that is older than `position`.
fn newest_before(
    changelog: &Changelog,
    earlier: Option<Position>,
    position: Position,
) -> Option<Position> {
    let of_changelog = changelog.truncations.iter().map(|truncation| truncation.position);
    of_changelog.chain(earlier).filter(|truncated| *truncated < position).max()
}

fn with_column(
    batch: &RecordBatch,
    at: usize,
    column: ArrayRef,
) -> Result<RecordBatch, ArrowError> {
    let mut columns = batch.columns().to_vec();
    columns[at] = column;
    RecordBatch::try_new(batch.schema(), columns)
}
