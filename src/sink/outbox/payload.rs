//! What is posted for the changes of a result: one body per row, in an envelope if it is asked for.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use arrow_json::LineDelimitedWriter;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::model::{
    Channel, Epoch, EpochCommit, Payload, PriorRow, RestChannel, ResultChanges, ResultMode, Sends,
};
use crate::sink::SinkError;

/// A row for the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sink) struct RenderedRequest {
    /// Rows with the same text are posted in order.
    pub(in crate::sink) lane: String,
    /// `created`, `updated` or `deleted`.
    pub(in crate::sink) operation: &'static str,
    pub(in crate::sink) idempotency_key: String,
    pub(in crate::sink) body: String,
}

/// Columns of a changelog that describe the change; in an envelope they are not data.
const ABOUT: [&str; 6] = ["op", "source_ts", "event_time", "event_id", "topic", EXTRA];
const EXTRA: &str = "extra_fields";

/// Rises when a field of the envelope changes its meaning or goes; new ones may come.
const SCHEMA_VERSION: &str = "1.0";

type JsonFields = BTreeMap<String, Box<RawValue>>;

/// The rows to post for the changes of a result to a path; none for a table.
///
/// Nothing is posted for a new definition: what is there already was not changed by anybody.
///
/// # Errors
/// If a column has a type that JSON has no form for.
pub(in crate::sink) fn render(
    changes: &ResultChanges,
    pipeline: &str,
    commit: &EpochCommit,
) -> Result<Vec<RenderedRequest>, SinkError> {
    let Channel::Rest(rest) = &changes.table.channel else { return Ok(Vec::new()) };
    if changes.is_new_definition {
        return Ok(Vec::new());
    }
    let result = changes.table.name.as_str();
    let (epoch, closed_at) = (commit.epoch, commit.closed_at);
    let took = closed_at.duration_since(commit.opened_at).unwrap_or_default();
    let (source, processing_time_ms) = (commit.queue.as_str(), took.as_millis() as u64);
    let renderer =
        Renderer { rest, pipeline, result, epoch, closed_at, source, processing_time_ms };
    renderer.rows(changes).map_err(|problem| SinkError::Targets {
        problems: vec![format!("{result}: its rows can't be written as JSON: {problem}")],
    })
}

struct Renderer<'a> {
    rest: &'a RestChannel,
    pipeline: &'a str,
    result: &'a str,
    epoch: Epoch,
    closed_at: SystemTime,
    source: &'a str,
    processing_time_ms: u64,
}

#[derive(Debug, thiserror::Error)]
enum RenderError {
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Renderer<'_> {
    fn rows(&self, changes: &ResultChanges) -> Result<Vec<RenderedRequest>, RenderError> {
        let mut rows = Vec::new();
        let appeared =
            |row: usize| changes.held.get(row).is_none_or(|held| *held == PriorRow::Nothing);
        let (is_keyed, sends) =
            (matches!(changes.table.mode, ResultMode::Keyed { .. }), self.rest.sends);
        if is_keyed && sends == Sends::Changes {
            let key: Vec<usize> = (0..changes.deletes.num_columns()).collect();
            self.add(&changes.deletes, &key, |_| Some("deleted"), &mut rows)?;
        }
        let operations = changes.upserts.column_by_name("op").cloned();
        let operation = |row: usize| match (is_keyed, sends) {
            (false, _) => Some(operation(operations.as_ref(), row)),
            (true, Sends::Changes) => Some(if appeared(row) { "created" } else { "updated" }),
            (true, Sends::New | Sends::Once) => appeared(row).then_some("created"),
        };
        self.add(&changes.upserts, &self.rest.order, operation, &mut rows)?;
        Ok(rows)
    }

    /// Adds the rows of a batch for which there is an operation.
    fn add(
        &self,
        batch: &RecordBatch,
        order: &[usize],
        operation: impl Fn(usize) -> Option<&'static str>,
        rows: &mut Vec<RenderedRequest>,
    ) -> Result<(), RenderError> {
        let wanted = (0..batch.num_rows()).filter_map(|row| Some((row, operation(row)?)));
        let wanted: Vec<(usize, &'static str)> = wanted.collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let lines = json_lines(batch)?;
        let event_ids = batch.column_by_name("event_id").and_then(|ids| ids.as_string_opt::<i32>());
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (row, operation) in wanted {
            let key = key_text(batch, row, order)?;
            let event_id = event_ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row));
            let identity = match (self.rest.sends, event_id) {
                (Sends::Once, _) => format!("once\u{1f}{key}"),
                (_, Some(event_id)) => format!("event\u{1f}{event_id}"),
                (_, None) => format!("epoch\u{1f}{}\u{1f}{key}", self.epoch),
            };
            // A join may make several rows of one event.
            let times = seen.entry(identity.clone()).or_default();
            let idempotency_key = self.idempotency_key(&identity, *times);
            *times += 1;
            let body = self.body(&lines[row], operation, event_id, &idempotency_key)?;
            let lane = format!("{}\u{1f}{key}", self.result).replace('\0', "\u{fffd}");
            rows.push(RenderedRequest { lane, operation, idempotency_key, body });
        }
        Ok(())
    }

    fn idempotency_key(&self, identity: &str, times: usize) -> String {
        let text = [self.pipeline, self.result, identity, &times.to_string()].join("\u{1f}");
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    fn body(
        &self,
        line: &str,
        operation: &'static str,
        event_id: Option<&str>,
        idempotency_key: &str,
    ) -> Result<String, RenderError> {
        if self.rest.payload == Payload::Row {
            return Ok(line.to_owned());
        }
        let mut row: JsonFields = serde_json::from_str(line)?;
        let timestamp = self.timestamp(&row);
        let topic = text_of(&row, "topic");
        let mut fields = extra_fields(&row);
        row.retain(|name, _| !ABOUT.contains(&name.as_str()));
        // A declared column goes before one of the same name that is not.
        fields.extend(row);
        let metadata = BodyMetadata {
            pipeline: self.pipeline,
            result: self.result,
            epoch: self.epoch.0,
            operation,
            source: self.source,
            source_table: self.rest.source_tables.join(", "),
            processing_time_ms: self.processing_time_ms,
            schema_version: SCHEMA_VERSION,
            topic,
        };
        let event_id = event_id.unwrap_or(idempotency_key);
        Ok(match &self.rest.payload {
            Payload::Row => line.to_owned(),
            Payload::Event { entity } => serde_json::to_string(&EventBody {
                event_type: format!("{entity}_{}", operation.to_uppercase()),
                event_id,
                timestamp,
                data: fields,
                metadata,
            })?,
            Payload::Notification { kind, priority } => serde_json::to_string(&NotificationBody {
                notification_type: kind,
                priority,
                notification_id: idempotency_key,
                timestamp,
                payload: fields,
                metadata,
            })?,
        })
    }

    /// When the source made the change, or else when the epoch was complete; UTC.
    fn timestamp(&self, row: &JsonFields) -> String {
        match text_of(row, "source_ts") {
            Some(time) if time.ends_with('Z') => time,
            Some(time) => time + "Z",
            None => {
                DateTime::<Utc>::from(self.closed_at).to_rfc3339_opts(SecondsFormat::Millis, true)
            }
        }
    }
}

#[derive(Serialize)]
struct EventBody<'a> {
    event_type: String,
    event_id: &'a str,
    timestamp: String,
    data: JsonFields,
    metadata: BodyMetadata<'a>,
}

#[derive(Serialize)]
struct NotificationBody<'a> {
    notification_type: &'a str,
    priority: &'a str,
    notification_id: &'a str,
    timestamp: String,
    payload: JsonFields,
    metadata: BodyMetadata<'a>,
}

#[derive(Serialize)]
struct BodyMetadata<'a> {
    pipeline: &'a str,
    result: &'a str,
    epoch: u64,
    operation: &'static str,
    /// The queue that the event came from.
    source: &'a str,
    /// The tables that the result reads, as the source names them: `SALES.ORDERS`.
    source_table: String,
    /// From the first message of the epoch to its results.
    processing_time_ms: u64,
    /// Of this envelope.
    schema_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
}

/// One object per row, with every column; numbers have all their digits.
fn json_lines(batch: &RecordBatch) -> Result<Vec<String>, ArrowError> {
    let mut bytes = Vec::new();
    let mut writer: LineDelimitedWriter<_> =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(str::to_owned).collect())
}

/// The columns that the table does not declare, if the row has them.
fn extra_fields(row: &JsonFields) -> JsonFields {
    let text = text_of(row, EXTRA);
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn text_of(row: &JsonFields, name: &str) -> Option<String> {
    row.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn operation(operations: Option<&ArrayRef>, row: usize) -> &'static str {
    let letters = operations.and_then(|array| array.as_string_opt::<i32>());
    match letters.filter(|array| array.is_valid(row)).map(|array| array.value(row)) {
        Some("u") => "updated",
        Some("d") => "deleted",
        _ => "created",
    }
}

fn key_text(batch: &RecordBatch, row: usize, columns: &[usize]) -> Result<String, ArrowError> {
    let text = |column: &usize| {
        let array = batch.column(*column);
        if array.is_valid(row) {
            array_value_to_string(array, row)
        } else {
            Ok("\u{2400}".to_owned())
        }
    };
    Ok(columns.iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\u{1f}"))
}

#[cfg(test)]
mod tests;
