//! Fills the cells that an event did not carry (an unchanged LOB) with the row's old values.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::error::ArrowError;
use arrow::row::Rows;
use hashbrown::HashMap;

use super::segment::Segment;
use super::store::Place;
use crate::changelog::{Cell, Changelog};

/// Replaces every unchanged cell of `changelog` by the value that the row had before.
///
/// `stored` answers where the store holds the row of the same key. A row without a predecessor
/// keeps NULL, and its cell stays listed: nobody knows the value.
pub(super) fn fill(
    changelog: &mut Changelog,
    keys: &Rows,
    segments: &[Segment],
    stored: impl Fn(usize) -> Option<Place>,
) -> Result<(), ArrowError> {
    let this_batch = segments.len();
    let mut by_column: HashMap<usize, Vec<usize>> = HashMap::new();
    for Cell { row, column } in std::mem::take(&mut changelog.unchanged) {
        by_column.entry(column).or_default().push(row);
    }
    for (column, rows) in by_column {
        let mut arrays: Vec<&dyn Array> =
            segments.iter().map(|segment| segment.batch.column(column).as_ref()).collect();
        arrays.push(changelog.batch.column(column).as_ref());
        let mut sources: Vec<(usize, usize)> =
            (0..changelog.len()).map(|row| (this_batch, row)).collect();
        let mut unknown = Vec::new();
        for row in rows {
            let before = (0..row).rev().find(|earlier| keys.row(*earlier) == keys.row(row));
            match (before, stored(row)) {
                // The earlier row may itself be filled: take what it takes.
                (Some(earlier), _) => sources[row] = sources[earlier],
                (None, Some(place)) => sources[row] = (place.segment, place.row),
                (None, None) => unknown.push(Cell { row, column }),
            }
        }
        let filled = interleave(&arrays, &sources)?;
        changelog.unchanged.extend(unknown);
        changelog.batch = with_column(&changelog.batch, column, filled)?;
    }
    Ok(())
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
