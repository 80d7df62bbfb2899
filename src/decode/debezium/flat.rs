//! Rows that `ExtractNewRecordState` has taken out of their envelopes.
//!
//! What is left of the envelope are fields that begin with `__`, or headers of the same names, as far as
//! they were asked for (`add.fields`, `add.headers`, `delete.tombstone.handling.mode=rewrite`).
//!
//! Source: "New Record State Extraction" of the Debezium documentation.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::{self, ChangeAction, ChangeEvent};
use super::headers::property;
use super::json_text::text;
use super::row_form::RowForm;
use super::value::Unit;
use crate::decode::refusal::EventRefusal;
use crate::model::{Message, Operation};

#[derive(Default, Deserialize)]
struct FlatMetadata<'a> {
    #[serde(borrow, rename = "__op", default)]
    op: Option<&'a RawValue>,
    #[serde(borrow, rename = "__deleted", default)]
    deleted: Option<&'a RawValue>,
    #[serde(borrow, rename = "__table", alias = "__source_table", default)]
    table: Option<&'a RawValue>,
    #[serde(borrow, rename = "__schema", alias = "__source_schema", default)]
    schema: Option<&'a RawValue>,
    #[serde(borrow, rename = "__source_ts_ms", default)]
    source_ts_ms: Option<&'a RawValue>,
    #[serde(borrow, rename = "__source_ts_us", default)]
    source_ts_us: Option<&'a RawValue>,
    #[serde(borrow, rename = "__ts_ms", default)]
    ts_ms: Option<&'a RawValue>,
    #[serde(borrow, rename = "__scn", default)]
    scn: Option<&'a RawValue>,
    #[serde(borrow, rename = "__source_scn", default)]
    source_scn: Option<&'a RawValue>,
    #[serde(borrow, rename = "__source_commit_scn", default)]
    commit_scn: Option<&'a RawValue>,
}

/// The change that a flattened row says; `None` if nothing says that it is one: no field `__op` or
/// `__deleted`, and nobody knows its table.
pub(super) fn read<'a>(
    text: &'a str,
    schema_section: Option<&'a str>,
    message: &'a Message,
    is_named: bool,
) -> Result<Option<ChangeEvent<'a>>, EventRefusal> {
    let metadata: FlatMetadata<'a> = serde_json::from_str(text)
        .map_err(|error| event::unknown(&format!("its __ fields: {error}")))?;
    let field = |raw: Option<&'a RawValue>, name: &str| {
        raw.and_then(|raw| plain(raw.get())).or_else(|| property(message, name).map(Cow::Borrowed))
    };
    let (op, deleted) = (field(metadata.op, "__op"), field(metadata.deleted, "__deleted"));
    let table = field(metadata.table, "__table").unwrap_or_default();
    if op.is_none() && deleted.is_none() && table.is_empty() && !is_named {
        return Ok(None);
    }
    let action = action(op.as_deref(), deleted.as_deref())?;
    let (before, after) = match action {
        ChangeAction::Row(Operation::Delete) => (Some(text), None),
        ChangeAction::Row(_) => (None, Some(text)),
        ChangeAction::Truncate | ChangeAction::Message => (None, None),
    };
    let time = |raw: Option<&'a RawValue>, name: &str, unit: Unit| {
        unit.micros(field(raw, name)?.parse().ok()?)
    };
    let source_ts = time(metadata.source_ts_us, "__source_ts_us", Unit::Micros)
        .or_else(|| time(metadata.source_ts_ms, "__source_ts_ms", Unit::Millis))
        .or_else(|| time(metadata.ts_ms, "__ts_ms", Unit::Millis));
    let schema = field(metadata.schema, "__schema").unwrap_or_default();
    let scns = [
        field(metadata.scn, "__scn"),
        field(metadata.source_scn, "__source_scn"),
        field(metadata.commit_scn, "__source_commit_scn"),
    ];
    let scn = event::newest_scn(scns.iter().map(Option::as_deref));
    Ok(Some(ChangeEvent {
        schema,
        table,
        action,
        before,
        after,
        source_ts,
        scn,
        schema_section,
        form: RowForm::Flattened,
        primary_keys: None,
    }))
}

/// Without `__op` a row that is there was written, by an insert or an update.
fn action(op: Option<&str>, deleted: Option<&str>) -> Result<ChangeAction, EventRefusal> {
    let is_deleted = match deleted {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(event::unknown("its __deleted is neither true nor false")),
    };
    match op {
        _ if is_deleted => Ok(ChangeAction::Row(Operation::Delete)),
        None => Ok(ChangeAction::Row(Operation::Update)),
        Some(op) => ChangeAction::from_letter(op)
            .ok_or_else(|| event::unknown("its __op is none of c, u, d, r, t, m")),
    }
}

/// The characters of a text, a number or a boolean; `None` for null.
fn plain(raw: &str) -> Option<Cow<'_, str>> {
    match raw {
        "null" => None,
        _ if raw.starts_with('"') => text(raw),
        _ => Some(Cow::Borrowed(raw)),
    }
}
