//! Fills the cells that an event did not carry (an unchanged LOB) with the row's old values.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::error::ArrowError;
use arrow::row::{Row, Rows};
use hashbrown::{HashMap, HashSet};

use super::place::Place;
use super::table_store::TableStore;
use crate::model::{Cell, Changelog, Operation, Position};
use crate::state::error::StateError;

impl TableStore {
    /// Fills the cells of unchanged LOBs of changes that are landed and not folded.
    pub(in crate::state) fn fill_unchanged(
        &self,
        changelog: &mut Changelog,
    ) -> Result<(), StateError> {
        self.fill_cells(changelog).map_err(|source| self.error(source))
    }

    pub(super) fn fill_cells(&self, changelog: &mut Changelog) -> Result<(), ArrowError> {
        if changelog.unchanged.is_empty() {
            return Ok(());
        }
        let keys = self.keys.encode(&changelog.batch)?;
        fill(changelog, &keys, self)
    }
}

/// The newest row of a key before the one at hand.
#[derive(Debug, Clone, Copy)]
struct RowBefore {
    position: Position,
    /// Where to copy its cell from; `None` if nobody knows the value.
    source: Option<(usize, usize)>,
}

/// Replaces every unchanged cell of `changelog` by the value that the row had before.
///
/// The row before is the newest one that the store or an earlier row of the batch has. A cell
/// keeps NULL if nobody knows its value: there is no row before, it was deleted or truncated,
/// its own cell is not known either, or it is newer than the row at hand. All cells stay listed.
fn fill(changelog: &mut Changelog, keys: &Rows, store: &TableStore) -> Result<(), ArrowError> {
    let segments = &store.segments;
    let mut by_column: HashMap<usize, HashSet<usize>> = HashMap::new();
    for Cell { row, column } in &changelog.unchanged {
        by_column.entry(*column).or_default().insert(*row);
    }
    let mut columns: Vec<_> = by_column.into_iter().collect();
    columns.sort_unstable_by_key(|(column, _)| *column);
    for (column, unchanged) in columns {
        let sources = sources(changelog, keys, &unchanged, store);
        let this_batch = changelog.batch.column(column).as_ref();
        let stored = segments.iter().map(|segment| segment.batch.column(column).as_ref());
        let arrays: Vec<&dyn Array> = stored.chain([this_batch]).collect();
        // An unknown cell is its own source: it is NULL.
        let filled: Vec<(usize, usize)> =
            (0..changelog.len()).map(|row| sources[row].unwrap_or((segments.len(), row))).collect();
        let filled = interleave(&arrays, &filled)?;
        changelog.batch = with_column(&changelog.batch, column, filled)?;
    }
    Ok(())
}

/// Per row of the changelog: the array and the row in it that hold the value of one column.
fn sources(
    changelog: &Changelog,
    keys: &Rows,
    unchanged: &HashSet<usize>,
    store: &TableStore,
) -> Vec<Option<(usize, usize)>> {
    let this_batch = store.segments.len();
    let stored = |key: &Row<'_>| {
        store.entry(key.as_ref()).map(|entry| RowBefore {
            position: entry.last.position,
            source: store.place(entry).map(Place::pair),
        })
    };
    let mut newest: HashMap<Row<'_>, RowBefore> = HashMap::new();
    let mut sources = Vec::with_capacity(changelog.len());
    for row in 0..changelog.len() {
        let (key, position) = (keys.row(row), changelog.positions[row]);
        let truncated = newest_before(changelog, store.truncated_at(), position);
        let before = newest.get(&key).copied().or_else(|| stored(&key));
        let before = before.filter(|before| truncated.is_none_or(|at| at < before.position));
        let is_newer = before.is_none_or(|before| before.position < position);
        let source = if unchanged.contains(&row) {
            before.filter(|_| is_newer).and_then(|before| before.source)
        } else {
            Some((this_batch, row))
        };
        sources.push(source);
        if is_newer {
            // What comes back after a delete is a new row.
            let source = source.filter(|_| changelog.operations[row] != Operation::Delete);
            newest.insert(key, RowBefore { position, source });
        }
    }
    sources
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
