//! CloudEvents in JSON, as Debezium's converter makes them: the rows are in `data`, what the envelope and
//! its source block say is in attributes that begin with `iodebezium`.
//!
//! Source: "CloudEvents Converter" of the Debezium documentation.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::body::Body;
use super::envelope;
use super::event::{self, ChangeAction, ChangeEvent, DebeziumEvent};
use super::row_form::RowForm;
use super::value::Unit;
use crate::decode::refusal::EventRefusal;

#[derive(Deserialize)]
struct CloudEvent<'a> {
    #[serde(rename = "specversion")]
    _version: IgnoredAny,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, rename = "iodebeziumop", default)]
    op: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "iodebeziumschema", default)]
    schema: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "iodebeziumtable", default)]
    table: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "iodebeziumtsms", default)]
    ts_ms: Option<&'a RawValue>,
    #[serde(borrow, rename = "iodebeziumscn", default)]
    scn: Option<&'a RawValue>,
    #[serde(borrow, rename = "iodebeziumcommitscn", default)]
    commit_scn: Option<&'a RawValue>,
}

/// `None` if it is no CloudEvent, or none with `data`.
pub(super) fn read(text: &str) -> Result<Option<DebeziumEvent<'_>>, EventRefusal> {
    let Ok(event) = serde_json::from_str::<CloudEvent<'_>>(text) else { return Ok(None) };
    let Some(data) = event.data else { return Ok(None) };
    let Some(body) = Body::read(data.get())? else {
        return Ok(Some(DebeziumEvent::Tombstone));
    };
    let rows = envelope::rows(&body.fields);
    if let Some(event) = envelope::event(&body.fields, body.schema_section)? {
        return Ok(Some(event));
    }
    let action = event.op.as_deref().and_then(ChangeAction::from_letter);
    let action = action.ok_or_else(|| {
        event::unknown("it is a CloudEvent whose iodebeziumop is none of c, u, d, r, t, m")
    })?;
    let ts_ms = event.ts_ms.and_then(|raw| raw.get().trim_matches('"').parse().ok());
    Ok(Some(DebeziumEvent::Change(ChangeEvent {
        schema: event.schema.unwrap_or_default(),
        table: event.table.unwrap_or_default(),
        action,
        before: rows.0,
        after: rows.1,
        source_ts: ts_ms.and_then(|count| Unit::Millis.micros(count)),
        scn: event::newest_scn([event.scn, event.commit_scn].map(|raw| raw.map(RawValue::get))),
        schema_section: body.schema_section,
        form: RowForm::Columns,
        primary_keys: None,
    })))
}
