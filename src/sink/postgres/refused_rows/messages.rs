//! What is said about refused rows, and kept of those that have no event.

use arrow::array::{Array, RecordBatch};

use super::refusal::RowRefusal;
use crate::model::{Changelog, ResultChanges, ResultMode, cell_text, row_json};
use crate::sink::postgres::target::row_write::RowOrigin;
use crate::sink::{DataError, RefusedRow};

const ADVICE: &str = "correct the table or the event, then replay it (tidemark dlq replay)";

/// A refused row of a result: it comes from many events, so that the row itself is kept.
pub(crate) struct RefusedResult {
    pub(crate) result: String,
    pub(crate) column: Option<String>,
    pub(crate) message: String,
    /// The row as JSON; of a delete, its key.
    pub(crate) row: String,
    pub(crate) is_deletion: bool,
}

pub(crate) fn of_landing(changelog: &Changelog, refusal: &RowRefusal) -> RefusedRow {
    let table = &changelog.table;
    let key = key_text(&changelog.batch, &table.key, refusal.row);
    RefusedRow {
        table: table.name.clone(),
        source: table.source.to_string(),
        offset: changelog.offsets[refusal.row],
        column: refusal.error.column.clone(),
        message: format!("{}: {ADVICE}", sentence(&key, &refusal.error)),
        told: refusal.error.to_string(),
        level: refusal.found_by,
    }
}

pub(crate) fn of_result(origin: RowOrigin<'_>, refusal: &RowRefusal) -> Option<RefusedResult> {
    let (changes, batch, key, what) = match origin {
        RowOrigin::Landing(_) => return None,
        RowOrigin::Upserts(changes) => (changes, &changes.upserts, key_of(changes), "the row"),
        RowOrigin::Deletes(changes) => {
            let all = (0..changes.deletes.num_columns()).collect();
            (changes, &changes.deletes, all, "the deletion")
        }
    };
    let is_deletion = matches!(origin, RowOrigin::Deletes(_));
    let name = &changes.table.name;
    let key = key_text(batch, &key, refusal.row);
    Some(RefusedResult {
        result: name.clone(),
        column: refusal.error.column.clone(),
        message: format!(
            "{what} is left out, and the target keeps what it had: {}; it is a row of the result {name}, which \
             comes from no single event: correct the table or the query, then replay it (tidemark dlq replay)",
            sentence(&key, &refusal.error)
        ),
        row: row_json(batch, refusal.row),
        is_deletion,
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
    format!("{table} refuses the row {key}{}: {}", column.unwrap_or_default(), error.with_detail())
}

fn key_text(batch: &RecordBatch, key: &[usize], row: usize) -> String {
    let schema = batch.schema();
    let cell = |at: &usize| {
        let value = if batch.column(*at).is_null(row) {
            "NULL".to_owned()
        } else {
            cell_text(batch.column(*at), row)
        };
        format!("{} = {value}", schema.field(*at).name())
    };
    key.iter().map(cell).collect::<Vec<_>>().join(", ")
}
