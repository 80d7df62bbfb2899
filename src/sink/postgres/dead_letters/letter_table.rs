//! The dead-letter table.

use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::{ArrayRef, BinaryArray, StringArray, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use bytes::Bytes;

use crate::model::{DeadLetter, EpochCommit, ErrorType, ResultLetter};
use crate::sink::SinkError;
use crate::sink::postgres::refused_rows::messages::RefusedResult;
use crate::sink::postgres::schema::catalog::CatalogTable;
use crate::sink::postgres::schema::column_types::stamp_type;
use crate::sink::postgres::schema::system_tables::DEAD_LETTERS;
use crate::sink::postgres::target::problem::TargetProblem;
use crate::sink::postgres::target::row_write::{LargeRow, TargetWrite};
use crate::sink::postgres::target::rows::{BoundStatement, EncodedRows, StatementParams, micros};
use crate::sink::postgres::target::table::{ColumnSpec, Fidelity, FoundTable, TargetTable};

/// In place of the topic of a refused row of a result, before the result's name.
pub(crate) const OF_RESULT: &str = "result/";
/// The `operation` of a refused row of a result that was to be deleted.
pub(crate) const DELETED: &str = "deleted";
/// The `operation` of a row that a result does not show.
const LEFT_OUT: &str = "left_out";

/// Which letters can be processed again: events, requests that an API refused, and rows of results.
pub(crate) const CAN_COME_BACK: &str = "(event_id LIKE 'rmid1:%' OR phase = 'rest' \
     OR phase = 'sink' AND event_id IS NULL AND original_topic LIKE 'result/%')";

/// Brings a table of an earlier version up to date.
pub(crate) const FILE: &str = "sql/ods/08_dead_letters_that_come_back.sql";

/// Payloads of more bytes are written and read in pieces.
pub(crate) const LARGE: usize = 1 << 20;

/// What an event that died twice in one epoch must not do: stop the epoch.
const ON_CONFLICT: &str = "ON CONFLICT DO NOTHING";

/// Postgres's NUMERIC holds numbers that are longer than any in real events, but not all of JSON's.
const LONGEST_NUMBER: usize = 300;

pub(crate) fn check(
    schema: &str,
    catalog: &CatalogTable,
    problems: &mut Vec<TargetProblem>,
) -> TargetTable {
    let stamp = stamp_type();
    let wanted: Vec<ColumnSpec<'_>> = [
        ("original_topic", &DataType::Utf8),
        ("error_type", &DataType::Utf8),
        ("error_message", &DataType::Utf8),
        ("phase", &DataType::Utf8),
        ("original_payload", &DataType::Binary),
        ("payload", &DataType::Utf8),
        ("properties", &DataType::Utf8),
        ("event_id", &DataType::Utf8),
        ("first_failure", &stamp),
        ("last_failure", &stamp),
        ("consumer_id", &DataType::Utf8),
        ("pipeline", &DataType::Utf8),
        ("source_table", &DataType::Utf8),
        ("column_name", &DataType::Utf8),
    ]
    // Its times and texts are for people.
    .map(|(name, data_type)| ColumnSpec { name, data_type, fidelity: Fidelity::Rounded })
    .into();
    // Not written here, but the others who use the table need them.
    for name in ["id", "retry_count", "status", "settled_at", "published_at"] {
        if !catalog.columns.contains_key(name) {
            problems.push(TargetProblem::MissingLetterColumn {
                table: DEAD_LETTERS,
                column: name,
                file: FILE,
            });
        }
    }
    let found = FoundTable { schema, name: DEAD_LETTERS, catalog };
    TargetTable::check(&found, &wanted, problems)
}

/// The run that writes letters, and the end of its epoch.
#[derive(Clone, Copy)]
pub(crate) struct WrittenBy<'a> {
    pub(crate) pipeline: &'a str,
    pub(crate) run_id: &'a str,
    pub(crate) closed_at: SystemTime,
}

/// What adds an epoch's dead letters.
pub(crate) fn inserts<'a>(
    commit: &EpochCommit,
    target: &'a TargetTable,
    written_by: WrittenBy<'_>,
) -> Result<Vec<TargetWrite<'a>>, SinkError> {
    let letters = &commit.dead_letters;
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    let written = letters.iter().map(|letter| LetterRow {
        topic: letter.topic.clone(),
        error_type: letter.error_type,
        message: &letter.message,
        table: letter.table.as_deref(),
        column: letter.column.as_deref(),
        payload: letter.payload.clone(),
        properties: properties(letter),
        event_id: Some(letter.offset.to_string()),
    });
    rows(&written.collect::<Vec<_>>(), target, written_by)
}

/// What adds the refused rows of results: letters without an event.
pub(crate) fn of_results<'a>(
    refused: &[RefusedResult],
    target: &'a TargetTable,
    written_by: WrittenBy<'_>,
) -> Result<Vec<TargetWrite<'a>>, SinkError> {
    let written = refused.iter().map(|row| LetterRow {
        topic: format!("{OF_RESULT}{}", row.result),
        error_type: ErrorType::RowRefused,
        message: &row.message,
        table: None,
        column: row.column.as_deref(),
        payload: Bytes::copy_from_slice(row.row.as_bytes()),
        properties: row_properties(row),
        event_id: None,
    });
    rows(&written.collect::<Vec<_>>(), target, written_by)
}

/// What adds rows which results don't show: letters without an event, too.
pub(crate) fn of_left_out<'a>(
    letters: &[ResultLetter],
    target: &'a TargetTable,
    written_by: WrittenBy<'_>,
) -> Result<Vec<TargetWrite<'a>>, SinkError> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    let written = letters.iter().map(|letter| LetterRow {
        topic: format!("{OF_RESULT}{}", letter.result),
        error_type: letter.error_type,
        message: &letter.message,
        table: None,
        column: letter.column.as_deref(),
        payload: Bytes::copy_from_slice(letter.row.as_bytes()),
        properties: about_row(&letter.result, LEFT_OUT),
        event_id: None,
    });
    rows(&written.collect::<Vec<_>>(), target, written_by)
}

/// What the table holds of a letter.
struct LetterRow<'a> {
    topic: String,
    error_type: ErrorType,
    message: &'a str,
    table: Option<&'a str>,
    column: Option<&'a str>,
    payload: Bytes,
    properties: String,
    event_id: Option<String>,
}

fn rows<'a>(
    letters: &[LetterRow<'_>],
    target: &'a TargetTable,
    written_by: WrittenBy<'_>,
) -> Result<Vec<TargetWrite<'a>>, SinkError> {
    let mut writes = Vec::new();
    let are_small =
        |one: &LetterRow<'_>, next: &LetterRow<'_>| one.payload.len() + next.payload.len() <= LARGE;
    for letters in letters.chunk_by(are_small) {
        let rows = encoded(letters, target, written_by)?;
        match letters {
            [letter] if letter.payload.len() > LARGE && target.can_copy() => {
                let find = find(letter, target, written_by.pipeline);
                writes.push(TargetWrite::Large(LargeRow { rows, find }));
            }
            _ => {
                let statements = rows.bind(&target.insert_sql(ON_CONFLICT))?;
                writes.extend(statements.into_iter().map(TargetWrite::Statement));
            }
        }
    }
    Ok(writes)
}

/// Finds a letter by what is unique of it.
fn find(letter: &LetterRow<'_>, target: &TargetTable, pipeline: &str) -> BoundStatement {
    let sql = format!("SELECT FROM {} WHERE pipeline = $1 AND event_id = $2", target.sql_name);
    let params: StatementParams =
        vec![Box::new(pipeline.to_owned()), Box::new(letter.event_id.clone())];
    BoundStatement { table: target.name.clone(), sql, params }
}

/// Of one letter these are its own bytes, which may be many.
fn payloads(letters: &[LetterRow<'_>]) -> BinaryArray {
    match letters {
        [alone] => {
            let offsets = OffsetBuffer::from_lengths([alone.payload.len()]);
            BinaryArray::new(offsets, alone.payload.clone().into(), None)
        }
        _ => BinaryArray::from_iter_values(letters.iter().map(|letter| &*letter.payload)),
    }
}

fn encoded<'a>(
    letters: &[LetterRow<'_>],
    target: &'a TargetTable,
    written_by: WrittenBy<'_>,
) -> Result<EncodedRows<'a>, SinkError> {
    let WrittenBy { pipeline, run_id, closed_at } = written_by;
    let text = |value: fn(&LetterRow<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(letters.iter().map(value).collect::<StringArray>())
    };
    let failed_at = TimestampMicrosecondArray::from_value(micros(closed_at), letters.len());
    let failed_at: ArrayRef = Arc::new(failed_at.with_timezone("UTC"));
    let arrays = vec![
        text(|letter| Some(printable(&letter.topic))),
        text(|letter| Some(letter.error_type.as_str().to_owned())),
        text(|letter| Some(printable(letter.message))),
        text(|letter| Some(letter.error_type.phase().as_str().to_owned())),
        Arc::new(payloads(letters)),
        text(|letter| jsonb(&letter.payload)),
        text(|letter| Some(letter.properties.clone())),
        text(|letter| letter.event_id.clone()),
        ArrayRef::clone(&failed_at),
        failed_at,
        Arc::new(StringArray::from(vec![run_id; letters.len()])),
        Arc::new(StringArray::from(vec![pipeline; letters.len()])),
        text(|letter| letter.table.map(printable)),
        text(|letter| letter.column.map(printable)),
    ];
    EncodedRows::new(target, arrays, closed_at)
}

/// A dead letter must be writable whatever is in it; the exact bytes are in `original_payload`.
pub(crate) fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn properties(letter: &DeadLetter) -> String {
    let entries = letter
        .properties
        .iter()
        .map(|(name, value)| (printable(name), printable(value).into()))
        .collect::<serde_json::Map<_, _>>();
    serde_json::Value::Object(entries).to_string()
}

/// What the payload alone doesn't tell.
fn row_properties(row: &RefusedResult) -> String {
    about_row(&row.result, if row.is_deletion { DELETED } else { "upserted" })
}

fn about_row(result: &str, operation: &str) -> String {
    serde_json::json!({"result": result, "operation": operation}).to_string()
}

/// Bytes of a payload that is shown as jsonb too: parsed, it takes some 25 times its bytes of memory.
const MAX_JSONB: usize = 1 << 20;

/// The payload's text if it is not large, and Postgres is sure to take it as jsonb.
fn jsonb(payload: &[u8]) -> Option<String> {
    if payload.len() > MAX_JSONB {
        return None;
    }
    let text = std::str::from_utf8(payload).ok()?;
    if text.contains("\\u0000") || has_long_number(payload) {
        return None;
    }
    // Parsed to a value, not only scanned: that also refuses lone surrogates.
    serde_json::from_str::<serde_json::Value>(text).ok()?;
    Some(text.to_owned())
}

/// Whether there is a number of very many digits or a very large exponent.
fn has_long_number(payload: &[u8]) -> bool {
    let (mut digits, mut is_exponent) = (0, false);
    let mut bytes = payload.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'e' | b'E' => (digits, is_exponent) = (0, true),
            b'+' | b'-' if is_exponent && digits == 0 => {}
            // What is in a string is no number: an identifier may well read `e2024`.
            b'"' => {
                skip_string(&mut bytes);
                (digits, is_exponent) = (0, false);
            }
            _ => (digits, is_exponent) = (0, false),
        }
        if digits > LONGEST_NUMBER || (is_exponent && digits > 3) {
            return true;
        }
    }
    false
}

/// Goes on behind the closing quote.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_payload_is_kept_as_bytes_alone() {
        let text = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
        assert!(jsonb(text(MAX_JSONB).as_bytes()).is_some());
        assert_eq!(jsonb(text(MAX_JSONB + 1).as_bytes()), None);
    }

    #[test]
    fn only_what_postgres_takes_becomes_jsonb() {
        assert_eq!(jsonb(b"{\"a\": 1e5}").as_deref(), Some("{\"a\": 1e5}"));
        assert_eq!(jsonb(b"{\"a\": \"\\u0000\"}"), None);
        assert_eq!(jsonb(b"{\"a\": \"\\ud800\"}"), None);
        assert_eq!(jsonb(b"{\"a\": 1e-20000}"), None);
        assert_eq!(jsonb(b"[\"e2024\\\"e2024\", 1e2024]"), None);
        assert_eq!(jsonb(format!("[0.{}]", "1".repeat(20_000)).as_bytes()), None);
        assert_eq!(jsonb(b"\xff{}"), None);
        assert_eq!(jsonb(b""), None);
    }

    #[test]
    fn digits_in_texts_are_no_numbers() {
        let texts = format!(
            "{{\"e2024\": \"rmid1:0e12345-\\\\\\\"e2024\", \"b\": \"{}\"}}",
            "7".repeat(400)
        );
        assert_eq!(jsonb(texts.as_bytes()).as_ref(), Some(&texts));
    }
}
