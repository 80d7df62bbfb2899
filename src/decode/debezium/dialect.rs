//! Which dialect a message is in: who configured Debezium decides, and we take all of them.
//!
//! An envelope (also inside a schema section), a CloudEvent around one, the row in the body with
//! everything else in user properties (`headers`), or a flattened row (`flat`). What is none of them
//! is refused.

use super::body::Body;
use super::envelope::{self, ChangeEvent, DebeziumEvent};
use super::topic::TopicPattern;
use super::{cloud_event, flat, headers};
use crate::decode::refusal::EventRefusal;
use crate::model::Message;

/// Reads a message. The table that a change belongs to is the one that its envelope names, else its
/// user properties, else its topic.
///
/// # Errors
/// [`EventRefusal::MalformedJson`] or [`EventRefusal::UnknownEnvelope`].
pub(in crate::decode) fn read<'a>(
    message: &'a Message,
    topics: Option<&TopicPattern>,
) -> Result<DebeziumEvent<'a>, EventRefusal> {
    let event = event(message, topics)?;
    let DebeziumEvent::Change(mut change) = event else { return Ok(event) };
    name_table(&mut change, message, topics);
    if change.table.is_empty() {
        return Err(envelope::unknown(
            "neither its source block nor its user properties name its table: configure decode.topic \
             if its topic does",
        ));
    }
    Ok(DebeziumEvent::Change(change))
}

fn event<'a>(
    message: &'a Message,
    topics: Option<&TopicPattern>,
) -> Result<DebeziumEvent<'a>, EventRefusal> {
    let Some(body) = Body::read(&message.payload)? else {
        return Ok(
            headers::delete(message)?.map_or(DebeziumEvent::Tombstone, DebeziumEvent::Change)
        );
    };
    let (text, section) = (body.text, body.schema_section);
    if let Some(event) = body.fields.event(section)? {
        return Ok(event);
    }
    if let Some(change) = headers::change(message, text, section)? {
        return Ok(DebeziumEvent::Change(change));
    }
    if let Some(event) = cloud_event::read(text)? {
        return Ok(event);
    }
    let is_named = names(message, topics).is_some();
    match flat::read(text, section, message, is_named)? {
        Some(change) => Ok(DebeziumEvent::Change(change)),
        None => Err(envelope::unknown("it has no field op")),
    }
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
