//! What the stores promise, with a table of four columns.

mod clock;
mod eviction;
mod fold;
mod late_events;
mod lookup;
mod memory_limit;
mod truncate;
mod unchanged_cells;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};

use super::*;
use crate::model::{
    Cell, Changelog, Column, GroupBound, Landing, LearnedColumns, Offset, Operation, Position,
    SourceTable, Table, TableDelta, TableOptions, TableOrigin,
};

/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;

/// `id` (the key), `parent`, `note` and `at`.
fn table(name: &str, options: TableOptions) -> Arc<Table> {
    let column =
        |name: &str, data_type| Column { name: name.to_owned(), data_type, nullable: true };
    Arc::new(Table {
        name: name.to_owned(),
        source: SourceTable { schema: "S".to_owned(), table: name.to_uppercase() },
        columns: vec![
            column("id", DataType::Int64),
            column("parent", DataType::Int64),
            column("note", DataType::Utf8),
            column("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ],
        key: vec![0],
        options,
        origin: TableOrigin::Declared,
        learned: LearnedColumns::default(),
    })
}

/// Options of a table that lands and whose rows stay for an hour.
fn an_hour() -> TableOptions {
    let landing = Landing::History("landing".to_owned());
    TableOptions { ttl: Some(Duration::from_secs(3600)), landing, ..TableOptions::default() }
}

#[derive(Debug, Clone)]
struct Change {
    operation: Operation,
    id: i64,
    parent: Option<i64>,
    /// `None`: an unchanged LOB.
    note: Option<String>,
    position: i64,
    /// Both its `source_ts` and its event time.
    time: i64,
}

/// An update at time 0.
fn change(position: i64, id: i64, note: &str) -> Change {
    let note = Some(note.to_owned());
    Change { operation: Operation::Update, id, parent: None, note, position, time: 0 }
}

fn delete(position: i64, id: i64) -> Change {
    Change { operation: Operation::Delete, ..change(position, id, "") }
}

impl Change {
    fn of(self, parent: i64) -> Self {
        Self { parent: Some(parent), ..self }
    }

    fn at(self, time: i64) -> Self {
        Self { time, ..self }
    }

    /// The event says that its LOB is as it was.
    fn with_old_note(self) -> Self {
        Self { note: None, ..self }
    }
}

fn changelog(table: &Arc<Table>, changes: &[Change]) -> Changelog {
    let times = changes.iter().map(|change| change.time);
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times));
    let ids = changes.iter().map(|change| change.id);
    let parents: Int64Array = changes.iter().map(|change| change.parent).collect();
    let notes: StringArray = changes.iter().map(|change| change.note.as_deref()).collect();
    let letters = changes.iter().map(|change| change.operation.letter());
    let offset = |change: &Change| Offset::new(7, change.position as u64);
    let event_ids = changes.iter().map(|change| offset(change).to_string());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids)),
        Arc::new(parents),
        Arc::new(notes),
        Arc::clone(&times),
        Arc::new(StringArray::from_iter_values(letters)),
        Arc::clone(&times),
        times,
        Arc::new(StringArray::from_iter_values(event_ids)),
        Arc::new(StringArray::from(vec!["topic"; changes.len()])),
        Arc::new(StringArray::from(vec![None::<&str>; changes.len()])),
    ];
    let is_unchanged = |row: &usize| changes[*row].note.is_none();
    Changelog {
        table: Arc::clone(table),
        batch: RecordBatch::try_new(table.changelog_schema(), columns).unwrap(),
        offsets: changes.iter().map(offset).collect(),
        positions: changes.iter().map(|change| Position(change.position)).collect(),
        operations: changes.iter().map(|change| change.operation).collect(),
        scns: vec![None; changes.len()],
        unchanged: (0..changes.len())
            .filter(is_unchanged)
            .map(|row| Cell { row, column: 2 })
            .collect(),
        truncations: Vec::new(),
    }
}

/// Id and note of all rows, by id.
fn rows(store: &TableStore) -> Vec<(i64, String)> {
    let mut rows: Vec<_> = store.rows().unwrap().iter().flat_map(notes).collect();
    rows.sort();
    rows.into_iter().map(|(id, note)| (id, note.unwrap_or_else(|| "NULL".to_owned()))).collect()
}

fn notes(batch: &RecordBatch) -> Vec<(i64, Option<String>)> {
    let ids = batch.column(0).as_primitive::<Int64Type>().values().iter().copied();
    let notes = batch.column(2).as_string::<i32>().iter().map(|note| note.map(str::to_owned));
    ids.zip(notes).collect()
}
