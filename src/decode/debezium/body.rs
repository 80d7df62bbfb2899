//! The bodies of a message's events, without the converter's wrapping.

use serde_json::value::RawValue;

use super::fields::{EnvelopeField, EnvelopeFields, parse};
use super::json_text::not_null;
use crate::decode::refusal::EventRefusal;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A value that is there, and the schema section beside it.
pub(super) struct Body<'a> {
    pub(super) text: &'a str,
    pub(super) fields: EnvelopeFields<'a>,
    pub(super) schema_section: Option<&'a str>,
}

impl<'a> Body<'a> {
    /// `None`: there is no value.
    pub(super) fn read(text: &'a str) -> Result<Option<Self>, EventRefusal> {
        if text.is_empty() {
            return Ok(None);
        }
        let Some(outer) = parse(text)? else { return Ok(None) };
        let Some((inner, schema_section)) = wrapped(&outer) else {
            return Ok(Some(Self { text, fields: outer, schema_section: None }));
        };
        let fields = parse(inner)?;
        Ok(fields.map(|fields| Self { text: inner, fields, schema_section }))
    }
}

/// The bodies of a message's events.
pub(in crate::decode) enum Bodies<'a> {
    /// Maybe nothing.
    One(&'a str),
    /// The events of a JSON array of several, or of none.
    Array(Vec<&'a str>),
}

/// Takes a message apart into its events.
pub(in crate::decode) fn bodies(payload: &[u8]) -> Result<Bodies<'_>, EventRefusal> {
    let malformed = |reason: String| EventRefusal::MalformedJson { reason };
    let text = std::str::from_utf8(payload).map_err(|error| malformed(error.to_string()))?;
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    if !is_array(text.as_bytes()) {
        return Ok(Bodies::One(text));
    }
    let events: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    Ok(match events.as_slice() {
        [event] => Bodies::One(event.get()),
        events => Bodies::Array(events.iter().map(|event| event.get()).collect()),
    })
}

/// How many events a payload is. What can't be read counts as one.
pub(in crate::decode) fn event_count(payload: &[u8]) -> usize {
    match bodies(payload) {
        Ok(Bodies::Array(events)) => events.len(),
        Ok(Bodies::One(_)) | Err(_) => 1,
    }
}

/// Whether a payload can be nothing but a JSON array.
pub(in crate::decode) fn is_array(mut payload: &[u8]) -> bool {
    while let Some(rest) = payload.strip_prefix(BYTE_ORDER_MARK.as_bytes()) {
        payload = rest;
    }
    payload.trim_ascii_start().starts_with(b"[")
}

/// The payload and its schema section, if this is what the converter puts around a value.
fn wrapped<'a>(fields: &EnvelopeFields<'a>) -> Option<(&'a str, Option<&'a str>)> {
    let payload = fields.get(EnvelopeField::Payload)?;
    // A row may have columns of these names.
    let is_value = payload.starts_with('{') || payload == "null";
    let is_wrapper = fields.has_only(&[EnvelopeField::Payload, EnvelopeField::Schema]);
    (is_value && is_wrapper).then(|| (payload, not_null(fields.get(EnvelopeField::Schema))))
}
