//! Which dialect a message is in: who configured Debezium decides, and we take all of them.
//!
//! An envelope (also inside a schema section), a CloudEvent around one, the row in the body with
//! everything else in user properties (`headers`), a flattened row (`flat`), or an operation of
//! GoldenGate. What is none of them is refused.

use super::body::Body;
use super::event::{self, ChangeEvent, DebeziumEvent};
use super::fields::EnvelopeField;
use super::topic::TopicPattern;
use super::{cloud_event, envelope, flat, golden_gate, headers};
use crate::decode::refusal::EventRefusal;
use crate::model::Message;

/// Reads an event of a message, whose body is `text`. The table that a change belongs to is the one that its envelope names, else its
/// user properties, else its topic.
///
/// # Errors
/// [`EventRefusal::MalformedJson`] or [`EventRefusal::UnknownEnvelope`].
pub(in crate::decode) fn read<'a>(
    message: &'a Message,
    text: &'a str,
    topics: Option<&TopicPattern>,
) -> Result<DebeziumEvent<'a>, EventRefusal> {
    let event = event(message, text, topics)?;
    let DebeziumEvent::Change(mut change) = event else { return Ok(event) };
    name_table(&mut change, message, topics);
    if change.table.is_empty() {
        return Err(event::unknown(
            "neither its source block nor its user properties name its table: configure decode.topic \
             if its topic does",
        ));
    }
    Ok(DebeziumEvent::Change(change))
}

fn event<'a>(
    message: &'a Message,
    text: &'a str,
    topics: Option<&TopicPattern>,
) -> Result<DebeziumEvent<'a>, EventRefusal> {
    let Some(body) = Body::read(text)? else {
        return Ok(
            headers::delete(message)?.map_or(DebeziumEvent::Tombstone, DebeziumEvent::Change)
        );
    };
    let (text, section) = (body.text, body.schema_section);
    let is_row = is_row(message, &body);
    if !is_row && let Some(event) = envelope::event(&body.fields, section)? {
        return Ok(event);
    }
    if let Some(change) = headers::change(message, text, section)? {
        return Ok(DebeziumEvent::Change(change));
    }
    if !is_row && let Some(event) = cloud_event::read(text)? {
        return Ok(event);
    }
    if !is_row && let Some(change) = golden_gate::read(&body)? {
        return Ok(DebeziumEvent::Change(change));
    }
    let is_named = names(message, topics).is_some();
    match flat::read(text, section, message, is_named)? {
        Some(change) => Ok(DebeziumEvent::Change(change)),
        None => Err(event::unknown("it has no field op")),
    }
}

/// Whether something says that the body is a row, whatever the names of its fields.
fn is_row(message: &Message, body: &Body<'_>) -> bool {
    let has = |name| headers::property(message, name).is_some();
    let is_flattened = body.fields.has_any(&[EnvelopeField::RowOp, EnvelopeField::RowDeleted])
        || has("__op")
        || has("__deleted");
    is_flattened || (has("cdc_operation") && !envelope::is_envelope(&body.fields))
}

fn name_table<'a>(
    change: &mut ChangeEvent<'a>,
    message: &'a Message,
    topics: Option<&TopicPattern>,
) {
    if change.table.is_empty()
        && let Some((schema, table)) = names(message, topics)
    {
        (change.schema, change.table) = (schema.into(), table.into());
    }
}

/// The schema and the table that user properties or the topic name; the schema may be empty.
fn names<'a>(message: &'a Message, topics: Option<&TopicPattern>) -> Option<(&'a str, &'a str)> {
    headers::names(message).or_else(|| topics?.names(&message.topic))
}
