//! What is said about refused rows, and kept of those that have no event.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use serde_json::{Map, Value};

use super::isolate::Refusal;
use super::piece::Origin;
use crate::changelog::{Changelog, ResultChanges, ResultMode};
use crate::sink::{DataError, RefusedRow};

const ADVICE: &str = "correct the table or the event, then replay it (tidemark dlq replay)";

/// A refused row of a result: it comes from many events, so that the row itself is kept.
pub(super) struct RefusedResult {
    pub(super) result: String,
    /// In place of a topic.
    pub(super) place: String,
    pub(super) column: Option<String>,
    pub(super) message: String,
    /// The row as JSON; of a delete, its key.
    pub(super) row: String,
}

pub(super) fn of_landing(changelog: &Changelog, refusal: &Refusal) -> RefusedRow {
    let table = &changelog.table;
    let key = key_text(&changelog.batch, &table.key, refusal.row);
    RefusedRow {
        table: table.name.clone(),
        offset: changelog.offsets[refusal.row],
        column: refusal.error.column.clone(),
        message: format!("{}: {ADVICE}", sentence(&key, &refusal.error)),
        distrust: refusal.found_by,
    }
}

pub(super) fn of_result(origin: Origin<'_>, refusal: &Refusal) -> Option<RefusedResult> {
    let (changes, batch, key, what) = match origin {
        Origin::Landing(_) => return None,
        Origin::Upserts(changes) => (changes, &changes.upserts, key_of(changes), "the row"),
        Origin::Deletes(changes) => {
            let all = (0..changes.deletes.num_columns()).collect();
            (changes, &changes.deletes, all, "the deletion")
        }
    };
    let name = &changes.table.name;
    let key = key_text(batch, &key, refusal.row);
    Some(RefusedResult {
        result: name.clone(),
        place: format!("result/{name}"),
        column: refusal.error.column.clone(),
        message: format!(
            "{what} is left out, and the target keeps what it had: {}; it is a row of the result {name}, which \
             comes from no single event: correct the table or the query; the next change of the row writes it again",
            sentence(&key, &refusal.error)
        ),
        row: json(batch, refusal.row),
    })
}

fn key_of(changes: &ResultChanges) -> Vec<usize> {
    match &changes.table.mode {
        ResultMode::Keyed { key } => key.clone(),
        ResultMode::Append => (0..changes.upserts.num_columns().min(1)).collect(),
    }
}

/// As in `orders refuses the row order_id = 7, column status: value too long (22001)`.
fn sentence(key: &str, error: &DataError) -> String {
    let table = error.table.as_deref().unwrap_or("the target");
    let column = error.column.as_ref().map(|column| format!(", column {column}"));
    format!("{table} refuses the row {key}{}: {}", column.unwrap_or_default(), error.message)
}

fn key_text(batch: &RecordBatch, key: &[usize], row: usize) -> String {
    let schema = batch.schema();
    let cell = |at: &usize| {
        let value = match batch.column(*at).is_null(row) {
            true => "NULL".to_owned(),
            false => text(batch.column(*at), row),
        };
        format!("{} = {value}", schema.field(*at).name())
    };
    key.iter().map(cell).collect::<Vec<_>>().join(", ")
}

/// Numbers that JSON holds exactly and booleans as they are, everything else as text.
fn json(batch: &RecordBatch, row: usize) -> String {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let value = match column.data_type() {
            _ if column.is_null(row) => Value::Null,
            DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
            integer if integer.is_integer() => text(column, row)
                .parse::<i64>()
                .map_or_else(|_| text(column, row).into(), Value::from),
            _ => Value::String(text(column, row)),
        };
        (field.name().clone(), value)
    });
    Value::Object(cells.collect::<Map<_, _>>()).to_string()
}

fn text(column: &ArrayRef, row: usize) -> String {
    // A type that has no text is a result column that no target takes.
    array_value_to_string(&Arc::clone(column), row).unwrap_or_else(|error| error.to_string())
}
