//! Fills the cells that an event did not carry (an unchanged LOB) with the row's old values.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::error::ArrowError;
use arrow::row::{Row, Rows};
use hashbrown::{HashMap, HashSet};

use super::store::Store;
use super::truncate::newest_before;
use crate::model::{Cell, Changelog, Operation, Position};

/// The newest row of a key before the one at hand.
#[derive(Debug, Clone, Copy)]
struct Newest {
    position: Position,
    /// Where to copy its cell from; `None` if nobody knows the value.
    source: Option<(usize, usize)>,
}

/// Replaces every unchanged cell of `changelog` by the value that the row had before.
///
/// The row before is the newest one that the store or an earlier row of the batch has. A cell
/// keeps NULL if nobody knows its value: there is no row before, it was deleted or truncated,
/// its own cell is not known either, or it is newer than the row at hand. All cells stay listed.
pub(super) fn fill(
    changelog: &mut Changelog,
    keys: &Rows,
    store: &Store,
) -> Result<(), ArrowError> {
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
    store: &Store,
) -> Vec<Option<(usize, usize)>> {
    let this_batch = store.segments.len();
    let stored = |key: &Row<'_>| {
        store.entries.get(key.as_ref()).map(|entry| Newest {
            position: entry.position,
            source: store.place(entry).map(|place| (place.segment(), place.row())),
        })
    };
    let mut newest: HashMap<Row<'_>, Newest> = HashMap::new();
    let mut sources = Vec::with_capacity(changelog.len());
    for row in 0..changelog.len() {
        let (key, position) = (keys.row(row), changelog.positions[row]);
        let truncated = newest_before(changelog, store.truncated, position);
        let before = newest.get(&key).copied().or_else(|| stored(&key));
        let before = before.filter(|before| truncated.is_none_or(|at| at < before.position));
        let is_newer = before.is_none_or(|before| before.position < position);
        let source = match unchanged.contains(&row) {
            false => Some((this_batch, row)),
            true => before.filter(|_| is_newer).and_then(|before| before.source),
        };
        sources.push(source);
        if is_newer {
            // What comes back after a delete is a new row.
            let source = source.filter(|_| changelog.operations[row] != Operation::Delete);
            newest.insert(key, Newest { position, source });
        }
    }
    sources
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
