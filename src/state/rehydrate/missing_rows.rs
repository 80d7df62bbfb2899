//! Which rows a changelog needs that are not in memory, although they may have been.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::model::{Changelog, KeyBytes, Operation, Table};
use crate::state::store::{KeyEntry, TableStore};

/// Rows of one table that are not in memory and that ttl may have dropped, and who needs them.
#[derive(Debug)]
pub struct MissingRows {
    pub table: Arc<Table>,
    /// The key columns of `table` in the order of its key; each key once.
    pub keys: RecordBatch,
    /// The keys, encoded.
    pub encoded: Vec<KeyBytes>,
    /// Per key: the rows of the changelog that need it.
    pub needed_by: Vec<Vec<usize>>,
}

/// The rows that the changelog itself changes. A key that the bound of its group may have cut is not
/// among them: what it needs is in memory.
pub(super) fn changed_rows(
    store: &TableStore,
    changelog: &Changelog,
) -> Result<Option<MissingRows>, ArrowError> {
    let was_cut = store.are_of_cut_groups(&changelog.batch)?;
    let columns: Vec<ArrayRef> =
        store.table().key.iter().map(|at| Arc::clone(changelog.batch.column(*at))).collect();
    let rows = (0..changelog.len()).filter(|row| !was_cut[*row]).map(|row| (row, row));
    missing(store, &columns, rows, |entry| entry.is_none())
}

/// The rows that the changelog makes anew after they were deleted.
pub(super) fn made_anew(
    store: &TableStore,
    changelog: &Changelog,
) -> Result<Option<MissingRows>, ArrowError> {
    let columns: Vec<ArrayRef> =
        store.table().key.iter().map(|at| Arc::clone(changelog.batch.column(*at))).collect();
    let is_delete = |row: &usize| changelog.operations[*row] == Operation::Delete;
    let rows = (0..changelog.len()).filter(|row| !is_delete(row)).map(|row| (row, row));
    missing(store, &columns, rows, |entry| entry.is_some_and(|entry| entry.slot.is_none()))
}

/// The rows that those of the changelog reference, before the change and after it.
pub(super) fn referenced_rows(
    store: &TableStore,
    parent: &TableStore,
    changelog: &Changelog,
) -> Result<Option<MissingRows>, ArrowError> {
    let reference = store.table().options.references.as_ref();
    let Some(reference) = reference.filter(|_| parent.has_dropped()) else { return Ok(None) };
    let stored = store.batches().map(|batch| batch.column(reference.column).as_ref());
    let new = changelog.batch.column(reference.column).as_ref();
    let arrays: Vec<&dyn Array> = [new].into_iter().chain(stored).collect();
    let keys = store.encode(&changelog.batch)?;
    let (mut sources, mut rows) = (Vec::new(), Vec::new());
    for row in 0..changelog.len() {
        sources.push((0, row));
        rows.push(row);
        if let Some(place) = store.place_of(keys.row(row).as_ref()) {
            sources.push((place.segment() + 1, place.row()));
            rows.push(row);
        }
    }
    let column = interleave(&arrays, &sources)?;
    missing(parent, &[column], rows.into_iter().enumerate(), |entry| entry.is_none())
}

/// The rows that those of the changelog look up.
pub(super) fn looked_up_rows(
    looked_up: &TableStore,
    columns: &[usize],
    changelog: &Changelog,
) -> Result<Option<MissingRows>, ArrowError> {
    if !looked_up.has_dropped() {
        return Ok(None);
    }
    let columns: Vec<ArrayRef> =
        columns.iter().map(|at| Arc::clone(changelog.batch.column(*at))).collect();
    let is_delete = |row: &usize| changelog.operations[*row] == Operation::Delete;
    let rows = (0..changelog.len()).filter(|row| !is_delete(row)).map(|row| (row, row));
    missing(looked_up, &columns, rows, |entry| entry.is_none())
}

/// Those of the keys in `columns` whose entry in `store` is as wanted; `rows` pairs the rows of
/// `columns` with those of the changelog. NULL is no key.
fn missing(
    store: &TableStore,
    columns: &[ArrayRef],
    rows: impl Iterator<Item = (usize, usize)>,
    is_wanted: impl Fn(Option<&KeyEntry>) -> bool,
) -> Result<Option<MissingRows>, ArrowError> {
    let keys = store.encode_columns(columns)?;
    let (mut found, mut needed_by) = (Vec::new(), Vec::<Vec<usize>>::new());
    let mut known = HashMap::new();
    for (at, row) in rows {
        let key = keys.row(at);
        let is_null = columns.iter().any(|column| column.is_null(at));
        if is_null || !is_wanted(store.entry(key.as_ref())) {
            continue;
        }
        let place = *known.entry(key).or_insert_with(|| {
            found.push(at as u64);
            needed_by.push(Vec::new());
            found.len() - 1
        });
        needed_by[place].push(row);
    }
    if found.is_empty() {
        return Ok(None);
    }
    let found = UInt64Array::from(found);
    let encoded =
        found.values().iter().map(|at| KeyBytes::from(keys.row(*at as usize).as_ref())).collect();
    let columns = columns.iter().map(|column| take(column, &found, None));
    let schema: Arc<Schema> = Arc::new(store.schema().project(&store.table().key)?);
    let keys = RecordBatch::try_new(schema, columns.collect::<Result<_, _>>()?)?;
    Ok(Some(MissingRows { table: Arc::clone(store.table()), keys, encoded, needed_by }))
}
