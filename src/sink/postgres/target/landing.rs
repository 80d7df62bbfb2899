//! Landing tables: every change of a source table, appended.

use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, TimeUnit};

use super::problem::TargetProblem;
use super::rows::EncodedRows;
use super::table::{ColumnSpec, FoundTable, Rounding, TargetTable};
use crate::model::{Changelog, Placed, Scn, SystemColumn, Table, place};
use crate::sink::SinkError;
use crate::sink::postgres::schema::catalog::CatalogColumn;
use crate::sink::postgres::schema::column_types::field_type;
use crate::sink::postgres::schema::landing_columns::{
    CHANGE_SEQ, EVENT_ID, EXTRA_FIELDS, OPERATION, SOURCE_SCN, SOURCE_TS, UNAVAILABLE,
};

/// The changelog's own columns among them.
const FROM_BATCH: [(SystemColumn, &str); 4] = [
    (SystemColumn::Op, OPERATION),
    (SystemColumn::SourceTs, SOURCE_TS),
    (SystemColumn::ExtraFields, EXTRA_FIELDS),
    (SystemColumn::EventId, EVENT_ID),
];

/// Checks a table's landing target.
pub(crate) fn check(
    table: &Table,
    found: &FoundTable<'_>,
    problems: &mut Vec<TargetProblem>,
) -> TargetTable {
    let catalog = found.catalog;
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let type_of = |column| match column {
        SystemColumn::SourceTs | SystemColumn::EventTime => &timestamp,
        SystemColumn::Op
        | SystemColumn::EventId
        | SystemColumn::Topic
        | SystemColumn::ExtraFields => &DataType::Utf8,
    };
    let mut wanted: Vec<ColumnSpec<'_>> = table
        .declared()
        .iter()
        .map(|column| ColumnSpec { name: &column.name, data_type: &column.data_type })
        .collect();
    let names = FROM_BATCH.map(|(_, name)| table.free_name(name));
    let own = FROM_BATCH.iter().zip(&names);
    wanted.extend(own.map(|((column, _), name)| ColumnSpec { name, data_type: type_of(*column) }));
    let change_seq = table.free_name(CHANGE_SEQ);
    wanted.push(ColumnSpec { name: &change_seq, data_type: &DataType::Int64 });
    let unavailable = table.free_name(UNAVAILABLE);
    if catalog.columns.contains_key(&unavailable) {
        wanted.push(ColumnSpec { name: &unavailable, data_type: &DataType::Utf8 });
    }
    let scn = table.free_name(SOURCE_SCN);
    if catalog.columns.contains_key(&scn) {
        wanted.push(ColumnSpec { name: &scn, data_type: &DataType::Int64 });
    }
    let placed = newest_placed(table).into_iter();
    let placed: Vec<(&Placed, DataType)> =
        placed.map(|placed| (placed, placed.data_type())).collect();
    // Without its column a field stays in `extra_fields`.
    let fits = |(placed, _): &&(&Placed, DataType)| {
        let there = catalog.columns.get(&placed.column);
        let is_as_placed =
            |there: &CatalogColumn| field_type(&there.type_name) == Some(placed.known);
        there.is_some_and(|there| !there.is_generated && is_as_placed(there))
    };
    let columns = placed.iter().filter(fits);
    wanted
        .extend(columns.map(|(placed, data_type)| ColumnSpec { name: &placed.column, data_type }));
    TargetTable::check(found, &wanted, Rounding::Refused, problems)
}

/// The columns that fields are written to.
fn newest_placed(table: &Table) -> Vec<&Placed> {
    let placed = &table.options.placed;
    let is_last = |at: usize| placed[at + 1..].iter().all(|later| later.field != placed[at].field);
    (0..placed.len()).filter(|at| is_last(*at)).map(|at| &placed[at]).collect()
}

/// Columns whose landing rows hold the old value where a change did not carry one.
pub(crate) fn needs_old_values(table: &Table, target: &TargetTable) -> Vec<usize> {
    let names_unavailable = target.has_column(&table.free_name(UNAVAILABLE));
    let is_blank = |at: &usize| names_unavailable && target.columns[*at].is_nullable;
    (0..table.declared().len()).filter(|at| !is_blank(at)).collect()
}

/// The rows of a changelog in the target's columns.
pub(crate) fn rows<'a>(
    changelog: &Changelog,
    target: &'a TargetTable,
    processed_at: SystemTime,
) -> Result<EncodedRows<'a>, SinkError> {
    let (table, batch) = (&changelog.table, &changelog.batch);
    let mut arrays: Vec<ArrayRef> = batch.columns()[..table.declared().len()].to_vec();
    let names_unavailable = target.has_column(&table.free_name(UNAVAILABLE));
    if names_unavailable {
        blank_unavailable(changelog, target, &mut arrays)?;
    }
    let placed = newest_placed(table).into_iter();
    let placed: Vec<&Placed> = placed.filter(|it| target.has_column(&it.column)).collect();
    let extra_fields = batch.column(table.system_column(SystemColumn::ExtraFields));
    let (columns, rest) = if placed.is_empty() {
        (Vec::new(), ArrayRef::clone(extra_fields))
    } else {
        let (columns, rest) = place(extra_fields.as_string(), &placed);
        (columns, Arc::new(rest) as ArrayRef)
    };
    arrays.extend(FROM_BATCH.map(|(column, _)| match column {
        SystemColumn::ExtraFields => ArrayRef::clone(&rest),
        column => ArrayRef::clone(batch.column(table.system_column(column))),
    }));
    let positions = changelog.positions.iter().map(|position| position.0);
    arrays.push(Arc::new(Int64Array::from_iter_values(positions)));
    if names_unavailable {
        arrays.push(Arc::new(unavailable_names(changelog)));
    }
    if target.has_column(&table.free_name(SOURCE_SCN)) {
        let scns = changelog.scns.iter().map(|scn| scn.map(Scn::number));
        arrays.push(Arc::new(scns.collect::<Int64Array>()));
    }
    arrays.extend(columns);
    EncodedRows::new(target, arrays, processed_at)
}

/// History says what the events said: a value that one did not carry is NULL, unless the column is NOT
/// NULL.
fn blank_unavailable(
    changelog: &Changelog,
    target: &TargetTable,
    arrays: &mut [ArrayRef],
) -> Result<(), SinkError> {
    for (column, array) in arrays.iter_mut().enumerate() {
        let of_column = changelog.unchanged.iter().filter(|cell| cell.column == column);
        let mut is_blank = vec![false; changelog.len()];
        of_column.for_each(|cell| is_blank[cell.row] = true);
        if !is_blank.contains(&true) || !target.columns[column].is_nullable {
            continue;
        }
        *array = nullif(array, &is_blank.into()).map_err(|error| SinkError::Targets {
            problems: vec![format!("{}.{}: {error}", target.name, target.columns[column].name)],
        })?;
    }
    Ok(())
}

/// Per row, as a JSON array; NULL for almost all.
fn unavailable_names(changelog: &Changelog) -> StringArray {
    let mut names: Vec<Vec<&str>> = vec![Vec::new(); changelog.len()];
    for cell in &changelog.unchanged {
        names[cell.row].push(&changelog.table.columns[cell.column].name);
    }
    let text = |names: Vec<&str>| (!names.is_empty()).then(|| serde_json::json!(names).to_string());
    names.into_iter().map(text).collect()
}
