//! The body of a message, without the converter's wrapping.

use serde_json::value::RawValue;

use super::event::unknown;
use super::fields::{EnvelopeField, EnvelopeFields, parse};
use super::json_text::not_null;
use crate::decode::refusal::EventRefusal;

/// A value that is there, and the schema section beside it.
pub(super) struct Body<'a> {
    pub(super) text: &'a str,
    pub(super) fields: EnvelopeFields<'a>,
    pub(super) schema_section: Option<&'a str>,
}

impl<'a> Body<'a> {
    /// `None`: there is no value.
    pub(super) fn read(payload: &'a [u8]) -> Result<Option<Self>, EventRefusal> {
        if payload.is_empty() {
            return Ok(None);
        }
        let text = std::str::from_utf8(payload)
            .map_err(|error| EventRefusal::MalformedJson { reason: error.to_string() })?;
        let text = only_event(text.trim_start_matches('\u{feff}'))?;
        let Some(outer) = parse(text)? else { return Ok(None) };
        let Some((inner, schema_section)) = wrapped(&outer) else {
            return Ok(Some(Self { text, fields: outer, schema_section: None }));
        };
        let fields = parse(inner)?;
        Ok(fields.map(|fields| Self { text: inner, fields, schema_section }))
    }
}

/// The event of a batch of one.
///
/// A larger batch is refused: the place of a message in the queue is what orders the changes of a row, and what
/// tells a change from its redelivery, so a message can't be two changes.
fn only_event(text: &str) -> Result<&str, EventRefusal> {
    if !text.trim_ascii_start().starts_with('[') {
        return Ok(text);
    }
    let events: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| EventRefusal::MalformedJson { reason: error.to_string() })?;
    match events.as_slice() {
        [event] => Ok(event.get()),
        events => Err(unknown(&format!(
            "it is a batch of {} events in a JSON array, and a message must be one event, because its place in \
             the queue orders the changes: switch batches off where they are sent",
            events.len()
        ))),
    }
}

/// The payload and its schema section, if this is what the converter puts around a value.
fn wrapped<'a>(fields: &EnvelopeFields<'a>) -> Option<(&'a str, Option<&'a str>)> {
    let payload = fields.get(EnvelopeField::Payload)?;
    // A row may have columns of these names.
    let is_value = payload.starts_with('{') || payload == "null";
    let is_wrapper = fields.has_only(&[EnvelopeField::Payload, EnvelopeField::Schema]);
    (is_value && is_wrapper).then(|| (payload, not_null(fields.get(EnvelopeField::Schema))))
}
