//! Debezium's own forms: its envelope, and what it tells about the source and itself.
//!
//! A row may have columns of the same names. So what only tells about the connector is that with nothing else
//! in it.
//!
//! Source: "Change event values", "Transaction metadata", "Schema change topic", "Notifications" and "Signals"
//! of the Debezium documentation.

use super::event::{ChangeAction, ChangeEvent, DebeziumEvent, SchemaMessage, newest_scn, unknown};
use super::fields::{EnvelopeField, EnvelopeFields, parse};
use super::json_text::{not_null, text};
use super::row_form::RowForm;
use super::value::Unit;
use crate::decode::refusal::EventRefusal;

const CHANGE: [EnvelopeField; 9] = [
    EnvelopeField::Before,
    EnvelopeField::After,
    EnvelopeField::Source,
    EnvelopeField::Op,
    EnvelopeField::TsMs,
    EnvelopeField::TsUs,
    EnvelopeField::TsNs,
    EnvelopeField::Transaction,
    EnvelopeField::Message,
];
const HEARTBEAT: [EnvelopeField; 3] =
    [EnvelopeField::TsMs, EnvelopeField::TsUs, EnvelopeField::TsNs];
const TRANSACTION: [EnvelopeField; 7] = [
    EnvelopeField::Status,
    EnvelopeField::Id,
    EnvelopeField::EventCount,
    EnvelopeField::DataCollections,
    EnvelopeField::TsMs,
    EnvelopeField::TsUs,
    EnvelopeField::TsNs,
];
const SCHEMA_CHANGE: [EnvelopeField; 9] = [
    EnvelopeField::Source,
    EnvelopeField::Position,
    EnvelopeField::DatabaseName,
    EnvelopeField::SchemaName,
    EnvelopeField::Ddl,
    EnvelopeField::TableChanges,
    EnvelopeField::TsMs,
    EnvelopeField::TsUs,
    EnvelopeField::TsNs,
];
const NOTIFICATION: [EnvelopeField; 5] = [
    EnvelopeField::Id,
    EnvelopeField::AggregateType,
    EnvelopeField::Type,
    EnvelopeField::AdditionalData,
    EnvelopeField::Timestamp,
];
const SIGNAL: [EnvelopeField; 3] = [EnvelopeField::Id, EnvelopeField::Type, EnvelopeField::Data];

/// What connectors can be told, and what they write into their table of signals.
const SIGNALS: [&str; 8] = [
    "execute-snapshot",
    "stop-snapshot",
    "pause-snapshot",
    "resume-snapshot",
    "log",
    "schema-changes",
    "snapshot-window-open",
    "snapshot-window-close",
];

/// What the body is, if it is one of these forms.
pub(super) fn event<'a>(
    fields: &EnvelopeFields<'a>,
    schema_section: Option<&'a str>,
) -> Result<Option<DebeziumEvent<'a>>, EventRefusal> {
    Ok(match fields.get(EnvelopeField::Op) {
        // A flattened row may have a column of that name.
        Some(op) if has_source(fields) || fields.has_only(&CHANGE) => {
            Some(DebeziumEvent::Change(change(fields, op, schema_section)?))
        }
        _ if is_schema_change(fields) => Some(DebeziumEvent::SchemaChange(schema_message(fields))),
        _ if is_transaction(fields) => Some(DebeziumEvent::Transaction),
        _ if fields.has(EnvelopeField::TsMs) && fields.has_only(&HEARTBEAT) => {
            Some(DebeziumEvent::Heartbeat)
        }
        _ if is_notification(fields) => Some(DebeziumEvent::Notification),
        _ if is_signal(fields) && fields.has_only(&SIGNAL) => Some(DebeziumEvent::Signal),
        _ => None,
    })
}

/// Whether it is an envelope with rows, so that it is no row itself.
pub(super) fn is_envelope(fields: &EnvelopeFields<'_>) -> bool {
    let op = fields.text(EnvelopeField::Op);
    fields.has_any(&[EnvelopeField::Before, EnvelopeField::After])
        && has_source(fields)
        && op.is_some_and(|op| ChangeAction::from_letter(&op).is_some())
}

/// `before` and `after`.
pub(super) fn rows<'a>(fields: &EnvelopeFields<'a>) -> (Option<&'a str>, Option<&'a str>) {
    let row = |field| not_null(fields.get(field));
    (row(EnvelopeField::Before), row(EnvelopeField::After))
}

/// Whether the `type` of a row or a message is that of a signal.
fn is_signal(fields: &EnvelopeFields<'_>) -> bool {
    fields.text(EnvelopeField::Type).is_some_and(|kind| is_kind_of_signal(&kind))
}

/// Whether it is the type of a signal.
pub(in crate::decode) fn is_kind_of_signal(kind: &str) -> bool {
    SIGNALS.contains(&kind)
}

fn has_source(fields: &EnvelopeFields<'_>) -> bool {
    fields.get(EnvelopeField::Source).is_some_and(|source| source.starts_with('{'))
}

fn is_schema_change(fields: &EnvelopeFields<'_>) -> bool {
    fields.has_any(&[EnvelopeField::Ddl, EnvelopeField::TableChanges])
        && fields.has_only(&SCHEMA_CHANGE)
}

fn is_transaction(fields: &EnvelopeFields<'_>) -> bool {
    let told = [EnvelopeField::EventCount, EnvelopeField::DataCollections, EnvelopeField::TsMs];
    matches!(fields.get(EnvelopeField::Status), Some(r#""BEGIN""# | r#""END""#))
        && fields.text(EnvelopeField::Id).is_some()
        && fields.has_any(&told)
        && fields.has_only(&TRANSACTION)
}

fn is_notification(fields: &EnvelopeFields<'_>) -> bool {
    let told = [EnvelopeField::AggregateType, EnvelopeField::Type];
    told.iter().all(|field| fields.text(*field).is_some()) && fields.has_only(&NOTIFICATION)
}

fn schema_message<'a>(fields: &EnvelopeFields<'a>) -> SchemaMessage<'a> {
    let source = fields.get(EnvelopeField::Source);
    let source = source.and_then(|source| parse(source).ok().flatten());
    let schema = source.and_then(|source| source.text(EnvelopeField::Schema));
    SchemaMessage {
        ddl: fields.text(EnvelopeField::Ddl),
        table_changes: not_null(fields.get(EnvelopeField::TableChanges)),
        schema: schema.unwrap_or_default(),
    }
}

fn change<'a>(
    fields: &EnvelopeFields<'a>,
    op: &'a str,
    schema_section: Option<&'a str>,
) -> Result<ChangeEvent<'a>, EventRefusal> {
    let op = text(op).ok_or_else(|| unknown("its op is no text"))?;
    let action = ChangeAction::from_letter(&op);
    let action = action.ok_or_else(|| unknown("its op is none of c, u, d, r, t, m"))?;
    let source = fields.get(EnvelopeField::Source).map(parse).transpose()?.flatten();
    let source = source.ok_or_else(|| unknown("it has no source block"))?;
    let name = |field| source.text(field).filter(|name| !name.is_empty());
    let (schema, table) = match (name(EnvelopeField::Schema), name(EnvelopeField::Table)) {
        (Some(schema), Some(table)) => (schema, table),
        // User properties or the topic may name them.
        _ => Default::default(),
    };
    let (before, after) = rows(fields);
    Ok(ChangeEvent {
        schema,
        table,
        action,
        before,
        after,
        source_ts: timestamp(&source).or_else(|| timestamp(fields)),
        scn: newest_scn([EnvelopeField::Scn, EnvelopeField::CommitScn].map(|scn| source.get(scn))),
        schema_section,
        form: RowForm::Columns,
        primary_keys: None,
    })
}

/// The finest of the three.
fn timestamp(fields: &EnvelopeFields<'_>) -> Option<i64> {
    let read = |field, unit: Unit| unit.micros(fields.get(field)?.parse().ok()?);
    read(EnvelopeField::TsNs, Unit::Nanos)
        .or_else(|| read(EnvelopeField::TsUs, Unit::Micros))
        .or_else(|| read(EnvelopeField::TsMs, Unit::Millis))
}
