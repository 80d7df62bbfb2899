//! Oracle GoldenGate's JSON: an operation with its rows in `before` and `after`, or a row with what belongs to
//! the operation beside its columns.
//!
//! An update holds the columns that changed and the key, unless the extract writes all of them, so a column that
//! is not there has not changed. A row says of a changed key only what it is now: the operation form tells both.
//! `pos` is a place in a trail, which says nothing about the order of the database; the token `L` is its SCN.
//!
//! Source: "Using the JSON Formatter" of Oracle GoldenGate for Big Data.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::Body;
use super::envelope;
use super::event::{self, ChangeAction, ChangeEvent};
use super::fields::EnvelopeField;
use super::row_form::RowForm;
use super::value::instant;
use crate::decode::refusal::EventRefusal;
use crate::model::Operation;

/// What the extract knows about the operation.
#[derive(Default, Deserialize)]
struct Tokens<'a> {
    #[serde(borrow, rename = "L", default)]
    scn: Option<&'a RawValue>,
}

/// `None` if it is no operation of GoldenGate: these have `op_type` and at least one of `op_ts`, `current_ts` and
/// `pos`.
pub(super) fn read<'a>(body: &Body<'a>) -> Result<Option<ChangeEvent<'a>>, EventRefusal> {
    let fields = &body.fields;
    let Some(op_type) = fields.text(EnvelopeField::OpType) else { return Ok(None) };
    if !fields.has_any(&[EnvelopeField::OpTs, EnvelopeField::CurrentTs, EnvelopeField::Pos]) {
        return Ok(None);
    }
    let action = action(&op_type).ok_or_else(|| {
        event::unknown("its op_type is none of I, U, D and T, as GoldenGate has them")
    })?;
    let has_images = fields.has_any(&[EnvelopeField::Before, EnvelopeField::After]);
    let (form, (before, after)) = match action {
        ChangeAction::Truncate | ChangeAction::Message => (RowForm::GoldenGateImage, (None, None)),
        _ if has_images => (RowForm::GoldenGateImage, envelope::rows(fields)),
        ChangeAction::Row(Operation::Delete) => (RowForm::GoldenGateRow, (Some(body.text), None)),
        ChangeAction::Row(_) => (RowForm::GoldenGateRow, (None, Some(body.text))),
    };
    let (schema, table) = fields.text(EnvelopeField::Table).map(names).unwrap_or_default();
    let tokens = fields.get(EnvelopeField::Tokens);
    let tokens: Tokens<'_> =
        tokens.and_then(|tokens| serde_json::from_str(tokens).ok()).unwrap_or_default();
    Ok(Some(ChangeEvent {
        schema,
        table,
        action,
        before,
        after,
        source_ts: fields.text(EnvelopeField::OpTs).and_then(|at| instant(&at)),
        scn: event::newest_scn([tokens.scn.map(RawValue::get)]),
        schema_section: body.schema_section,
        form,
        primary_keys: fields.get(EnvelopeField::PrimaryKeys),
    }))
}

fn action(op_type: &str) -> Option<ChangeAction> {
    match op_type {
        "I" => Some(ChangeAction::Row(Operation::Create)),
        "U" => Some(ChangeAction::Row(Operation::Update)),
        "D" => Some(ChangeAction::Row(Operation::Delete)),
        "T" => Some(ChangeAction::Truncate),
        _ => None,
    }
}

/// The schema and the table of `SCHEMA.TABLE` and `CATALOG.SCHEMA.TABLE`; the schema is empty if there is none.
fn names(table: Cow<'_, str>) -> (Cow<'_, str>, Cow<'_, str>) {
    let owned = |name: &str| Cow::Owned(name.to_owned());
    match table.rsplit_once('.') {
        Some((schemas, name)) => {
            let schema = schemas.rsplit_once('.').map_or(schemas, |(_, schema)| schema);
            (owned(schema), owned(name))
        }
        None => (Cow::default(), table),
    }
}
