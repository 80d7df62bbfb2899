//! The outermost form of a JSON value whose text was validated before.

use std::borrow::Cow;

use super::error::ValueError;

/// A JSON value; numbers and nested values stay text, so that nothing is rounded or built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    /// An object or an array.
    Nested(&'a str),
}

impl<'a> Json<'a> {
    /// `raw` is the text of one valid JSON value without surrounding space.
    pub(super) fn read(raw: &'a str) -> Result<Self, ValueError> {
        Ok(match raw.as_bytes().first() {
            Some(b'"') => Self::Text(unquote(raw)?),
            Some(b'{' | b'[') => Self::Nested(raw),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'n') | None => Self::Null,
            Some(_) => Self::Number(raw),
        })
    }

    pub(super) fn number(&self) -> Option<&'a str> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Text as it is, everything else as its JSON text.
    pub(super) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            Self::Number(text) | Self::Nested(text) => Cow::Borrowed(text),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Null => Cow::Borrowed("null"),
        }
    }
}

/// The characters of a JSON string; borrowed unless it has escapes.
fn unquote(raw: &str) -> Result<Cow<'_, str>, ValueError> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let text: String = serde_json::from_str(raw).map_err(|_| ValueError::BadCharacter)?;
    if text.contains('\0') { Err(ValueError::BadCharacter) } else { Ok(Cow::Owned(text)) }
}

/// Whether a string anywhere in this JSON text has an escaped NUL or half a surrogate pair, which
/// are valid JSON but not in Postgres.
pub(in crate::decode) fn has_bad_escape(raw: &str) -> bool {
    if !raw.contains("\\u") {
        return false;
    }
    // Cuts at unescaped quotes: every piece that starts a string is checked as one.
    let bytes = raw.as_bytes();
    let mut start = None;
    let mut index = 0;
    while index < bytes.len() {
        match (bytes[index], start) {
            (b'\\', _) => index += 1,
            (b'"', None) => start = Some(index),
            (b'"', Some(first)) => {
                if unquote(&raw[first..=index]).is_err() {
                    return true;
                }
                start = None;
            }
            _ => {}
        }
        index += 1;
    }
    false
}
