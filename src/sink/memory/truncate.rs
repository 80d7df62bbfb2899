//! Truncates: deletes of all rows that were current.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};
use arrow::array::{Int64Array, RecordBatch};
use arrow::error::ArrowError;

use super::landed::newest;
use crate::model::{Changelog, EventId, Operation, SystemColumn, Truncation};

/// A delete of every row that was current when the source emptied the table.
pub(super) fn deletes(
    landed: &[Changelog],
    truncation: &Truncation,
) -> Result<Vec<Changelog>, ArrowError> {
    let Some(table) = landed.first().map(|changelog| Arc::clone(&changelog.table)) else {
        return Ok(Vec::new());
    };
    let older: Vec<Changelog> = landed
        .iter()
        .map(|changelog| {
            let positions = changelog.positions.iter();
            let is_newer: Vec<bool> = positions.map(|p| *p >= truncation.position).collect();
            changelog.clone().without(&is_newer)
        })
        .collect();
    let current = newest(&table, &older, None)?.into_iter().map(|changelog| {
        let is_gone: Vec<bool> =
            changelog.operations.iter().map(|op| *op == Operation::Delete).collect();
        changelog.without(&is_gone)
    });
    current.filter(|changelog| !changelog.is_empty()).map(|c| delete(c, truncation)).collect()
}

fn delete(changelog: Changelog, truncation: &Truncation) -> Result<Changelog, ArrowError> {
    let count = changelog.len();
    let mut columns = changelog.batch.columns().to_vec();
    let time: TimestampMicrosecondArray =
        Int64Array::from(vec![truncation.source_ts; count]).reinterpret_cast();
    let event = EventId::new(truncation.offset, truncation.position);
    let ids = (1..=count).map(|number| format!("{event}#{number}"));
    let mut set = |column: SystemColumn, array: ArrayRef| {
        columns[changelog.table.system_column(column)] = array;
    };
    set(SystemColumn::Op, Arc::new(StringArray::from(vec!["d"; count])));
    set(SystemColumn::SourceTs, Arc::new(time));
    set(SystemColumn::EventId, Arc::new(StringArray::from_iter_values(ids)));
    set(SystemColumn::ExtraFields, Arc::new(StringArray::new_null(count)));
    Ok(Changelog {
        batch: RecordBatch::try_new(changelog.batch.schema(), columns)?,
        offsets: vec![truncation.offset; count],
        positions: vec![truncation.position; count],
        operations: vec![Operation::Delete; count],
        scns: vec![truncation.scn; count],
        ..changelog
    })
}
