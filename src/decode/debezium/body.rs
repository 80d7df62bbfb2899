//! The body of a message, without the converter's wrapping.

use super::envelope::{self, EnvelopeFields};
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
        let Some(outer) = envelope::parse(text)? else { return Ok(None) };
        let Some((inner, schema_section)) = outer.wrapped() else {
            return Ok(Some(Self { text, fields: outer, schema_section: None }));
        };
        let fields = envelope::parse(inner)?;
        Ok(fields.map(|fields| Self { text: inner, fields, schema_section }))
    }
}
