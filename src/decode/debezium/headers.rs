//! The form of Solace's Oracle CDC integration: the row is the body, all else is in user properties.
//!
//! Source: "Message Headers" of the self-managed Oracle CDC micro-integration.

use super::body::Body;
use super::event::{self, ChangeAction, ChangeEvent};
use super::row_form::RowForm;
use super::value::{Unit, instant};
use crate::decode::refusal::EventRefusal;
use crate::model::{Message, Operation};

/// A change whose row is `body`; `None` if no user property says what happened to it.
pub(super) fn change<'a>(
    message: &'a Message,
    body: &'a str,
    section: Option<&'a str>,
) -> Result<Option<ChangeEvent<'a>>, EventRefusal> {
    let Some(action) = action(message)? else { return Ok(None) };
    let before = row(message, "cdc_before")?;
    let (before, after) = match action {
        // The body is empty, or the row that is gone.
        ChangeAction::Row(Operation::Delete) => {
            (before.or(row(message, "cdc_key")?).or(Some(body)), None)
        }
        ChangeAction::Row(_) => (before, Some(body)),
        ChangeAction::Truncate | ChangeAction::Message => (None, None),
    };
    let section = section.or_else(|| property(message, "cdc_after_schema"));
    Ok(Some(ChangeEvent { before, after, schema_section: section, ..change_of(message, action) }))
}

/// A change without a body: a delete, or a truncate.
pub(super) fn delete(message: &Message) -> Result<Option<ChangeEvent<'_>>, EventRefusal> {
    let Some(action) = action(message)? else { return Ok(None) };
    match action {
        ChangeAction::Row(Operation::Delete) => {
            let before = row(message, "cdc_before")?.or(row(message, "cdc_key")?);
            Ok(Some(ChangeEvent { before, ..change_of(message, action) }))
        }
        ChangeAction::Truncate => Ok(Some(change_of(message, action))),
        ChangeAction::Row(_) | ChangeAction::Message => {
            Err(event::unknown("its user property cdc_operation wants a row, but it has no body"))
        }
    }
}

/// The key of the row, a JSON object, if a user property says it.
pub(in crate::decode) fn key(message: &Message) -> Option<&str> {
    row(message, "cdc_key").ok().flatten()
}

/// `cdc_schema` and `cdc_table_name`.
pub(super) fn names(message: &Message) -> Option<(&str, &str)> {
    let table = property(message, "cdc_table_name")?;
    match (property(message, "cdc_schema"), table.split_once('.')) {
        (Some(schema), _) => Some((schema, table)),
        (None, Some(names)) => Some(names),
        (None, None) => Some(("", table)),
    }
}

/// A user property that is there and not empty.
pub(super) fn property<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let mut properties = message.properties.iter();
    let value = &properties.find(|(property, _)| property == name)?.1;
    Some(&**value).filter(|value| !value.is_empty() && *value != "null")
}

/// The change that the user properties name, without its rows.
fn change_of(message: &Message, action: ChangeAction) -> ChangeEvent<'_> {
    let (schema, table) = names(message).unwrap_or_default();
    ChangeEvent {
        schema: schema.into(),
        table: table.into(),
        action,
        before: None,
        after: None,
        source_ts: source_ts(message),
        scn: event::newest_scn(["cdc_scn", "cdc_commit_scn"].map(|name| property(message, name))),
        schema_section: None,
        form: RowForm::Columns,
        primary_keys: None,
    }
}

fn source_ts(message: &Message) -> Option<i64> {
    let millis = |name| Unit::Millis.micros(property(message, name)?.parse().ok()?);
    property(message, "cdc_timestamp").and_then(instant).or_else(|| millis("cdc_commit_ts_ms"))
}

fn action(message: &Message) -> Result<Option<ChangeAction>, EventRefusal> {
    let Some(operation) = property(message, "cdc_operation") else { return Ok(None) };
    let action = match operation.to_ascii_lowercase().as_str() {
        "c" | "i" | "create" | "insert" => ChangeAction::Row(Operation::Create),
        "u" | "update" => ChangeAction::Row(Operation::Update),
        "d" | "delete" => ChangeAction::Row(Operation::Delete),
        "r" | "read" | "snapshot" => ChangeAction::Row(Operation::Read),
        "t" | "truncate" => ChangeAction::Truncate,
        _ => {
            return Err(event::unknown(&format!(
                "its user property cdc_operation is '{}', which is none of c, u, d, r, t and their words",
                operation.chars().take(20).collect::<String>()
            )));
        }
    };
    Ok(Some(action))
}

/// A row in a user property, with or without a schema section around it.
fn row<'a>(message: &'a Message, name: &str) -> Result<Option<&'a str>, EventRefusal> {
    let Some(text) = property(message, name) else { return Ok(None) };
    let body = Body::read(text)
        .map_err(|error| event::unknown(&format!("its user property {name} is no row: {error}")))?;
    Ok(body.map(|body| body.text))
}
