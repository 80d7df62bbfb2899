//! What was landed, read as a sink reads it: the newest row per key, or all rows of some keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

use crate::model::{
    Changelog, Offset, OffsetSet, Operation, Position, Scn, SystemColumn, Table, extract,
};
use crate::sink::BOOTSTRAP_ROWS;

/// The values of some columns of one row, as text.
pub type TextRow = Vec<Option<String>>;

/// Some columns of a row as text.
pub fn text_row(batch: &RecordBatch, row: usize, columns: &[usize]) -> Result<TextRow, ArrowError> {
    let text = |array: &ArrayRef| {
        array.is_valid(row).then(|| array_value_to_string(array, row)).transpose()
    };
    columns.iter().map(|column| text(batch.column(*column))).collect()
}

/// The newest row per key by position, of those whose time is not before `since`.
pub(super) fn newest(
    table: &Arc<Table>,
    landed: &[Changelog],
    since: Option<i64>,
) -> Result<Vec<Changelog>, ArrowError> {
    let (all, rows) = landed_rows(table, landed)?;
    let mut by_key: BTreeMap<TextRow, usize> = BTreeMap::new();
    for (row, (position, ..)) in rows.iter().enumerate() {
        let newest = by_key.entry(text_row(&all, row, &table.key)?).or_insert(row);
        if rows[*newest].0 < *position {
            *newest = row;
        }
    }
    let times = all.column(table.system_column(SystemColumn::SourceTs));
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let is_recent = |row: &u64| {
        since.is_none_or(|since| {
            times.is_valid(*row as usize) && times.value(*row as usize) >= since
        })
    };
    let chosen: Vec<u64> = by_key.into_values().map(|row| row as u64).filter(is_recent).collect();
    chosen.chunks(BOOTSTRAP_ROWS).map(|chosen| picked(table, &all, &rows, chosen)).collect()
}

/// All rows of some messages.
pub(super) fn changes(
    table: &Arc<Table>,
    landed: &[Changelog],
    messages: &OffsetSet,
) -> Result<Vec<Changelog>, ArrowError> {
    let (all, rows) = landed_rows(table, landed)?;
    let is_asked = |row: &u64| messages.contains(rows[*row as usize].1);
    let chosen: Vec<u64> = (0..rows.len() as u64).filter(is_asked).collect();
    chosen.chunks(BOOTSTRAP_ROWS).map(|chosen| picked(table, &all, &rows, chosen)).collect()
}

/// All rows of some keys, by key and position.
pub(super) fn history(
    table: &Arc<Table>,
    landed: &[Changelog],
    keys: &RecordBatch,
) -> Result<Vec<Changelog>, ArrowError> {
    let (all, rows) = landed_rows(table, landed)?;
    let columns: Vec<usize> = (0..keys.num_columns()).collect();
    let asked = (0..keys.num_rows()).map(|row| text_row(keys, row, &columns));
    let asked: BTreeSet<TextRow> = asked.collect::<Result<_, _>>()?;
    let mut chosen = Vec::new();
    for (row, (position, ..)) in rows.iter().enumerate() {
        let key = text_row(&all, row, &table.key)?;
        if asked.contains(&key) {
            chosen.push((key, *position, row as u64));
        }
    }
    chosen.sort_unstable();
    let chosen: Vec<u64> = chosen.into_iter().map(|(.., row)| row).collect();
    chosen.chunks(BOOTSTRAP_ROWS).map(|chosen| picked(table, &all, &rows, chosen)).collect()
}

/// What a landed row has besides its columns.
type LandedRow = (Position, Offset, Operation, Option<Scn>);

fn landed_rows(
    table: &Table,
    landed: &[Changelog],
) -> Result<(RecordBatch, Vec<LandedRow>), ArrowError> {
    let landed_batches = landed.iter().map(|changelog| as_landed(table, changelog));
    let landed_batches = landed_batches.collect::<Result<Vec<_>, _>>()?;
    let all = concat_batches(&table.changelog_schema(), &landed_batches)?;
    let of_rows = |changelog: &Changelog| -> Vec<LandedRow> {
        let Changelog { positions, offsets, operations, scns, .. } = changelog;
        (0..changelog.len())
            .map(|row| (positions[row], offsets[row], operations[row], scns[row]))
            .collect()
    };
    Ok((all, landed.iter().flat_map(of_rows).collect()))
}

/// Landing tables hold the declared columns; what queries read of `extra_fields` may be others now.
fn as_landed(table: &Table, changelog: &Changelog) -> Result<RecordBatch, ArrowError> {
    let (batch, of) = (&changelog.batch, &changelog.table);
    let extra_fields = batch.column(of.system_column(SystemColumn::ExtraFields));
    let mut columns = batch.columns()[..of.declared().len()].to_vec();
    columns.extend(extract(table, extra_fields.as_string()));
    columns.extend_from_slice(&batch.columns()[of.columns.len()..]);
    RecordBatch::try_new(table.changelog_schema(), columns)
}

fn picked(
    table: &Arc<Table>,
    all: &RecordBatch,
    rows: &[LandedRow],
    chosen: &[u64],
) -> Result<Changelog, ArrowError> {
    let batch = take_record_batch(all, &UInt64Array::from(chosen.to_vec()))?;
    let mut columns = batch.columns().to_vec();
    columns[table.system_column(SystemColumn::Topic)] =
        Arc::new(StringArray::from(vec![""; chosen.len()]));
    let chosen: Vec<_> = chosen.iter().map(|row| rows[*row as usize]).collect();
    Ok(Changelog {
        table: Arc::clone(table),
        batch: RecordBatch::try_new(batch.schema(), columns)?,
        offsets: chosen.iter().map(|row| row.1).collect(),
        positions: chosen.iter().map(|row| row.0).collect(),
        operations: chosen.iter().map(|row| row.2).collect(),
        scns: chosen.iter().map(|row| row.3).collect(),
        unchanged: Vec::new(),
        truncations: Vec::new(),
    })
}
