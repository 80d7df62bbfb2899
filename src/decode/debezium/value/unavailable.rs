//! Debezium's placeholder for a LOB that a change did not touch, in all forms that it takes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Knows the placeholder: as text, as bytes of a BLOB (`binary.handling.mode`), and in a list of one.
#[derive(Debug)]
pub(in crate::decode) struct Unavailable {
    /// As JSON texts.
    forms: Vec<Box<str>>,
}

impl Unavailable {
    pub(in crate::decode) fn new(placeholder: &str) -> Self {
        let bytes = placeholder.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let texts = [
            placeholder.to_owned(),
            STANDARD.encode(bytes),
            URL_SAFE.encode(bytes),
            hex.to_uppercase(),
            hex,
        ];
        let mut forms: Vec<Box<str>> =
            texts.map(|text| serde_json::Value::from(text).to_string().into()).into();
        forms.dedup();
        Self { forms }
    }

    /// Whether a JSON value is only a placeholder for one.
    pub(in crate::decode) fn is(&self, raw: &str) -> bool {
        let inner = match raw.as_bytes().first() {
            Some(b'"') => raw,
            Some(b'[') => raw[1..raw.len() - 1].trim(),
            _ => return false,
        };
        self.forms.iter().any(|form| **form == *inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_the_placeholder_are_known_and_nothing_else() {
        let default = Unavailable::new("__debezium_unavailable_value");
        for raw in [
            r#""__debezium_unavailable_value""#,
            r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#,
            r#""5f5f646562657a69756d5f756e617661696c61626c655f76616c7565""#,
            r#""5F5F646562657A69756D5F756E617661696C61626C655F76616C7565""#,
            r#"["__debezium_unavailable_value"]"#,
            r#"[ "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==" ]"#,
        ] {
            assert!(default.is(raw), "{raw}");
        }
        for raw in [
            r#""__debezium_unavailable_values""#,
            r#"["__debezium_unavailable_value", 1]"#,
            r#"{"a":"__debezium_unavailable_value"}"#,
            "[]",
            "null",
            "1",
            "\"\"",
        ] {
            assert!(!default.is(raw), "{raw}");
        }
        let other = Unavailable::new("kein \"Wert\"?");
        assert!(other.is(r#""kein \"Wert\"?""#) && !other.is(r#""__debezium_unavailable_value""#));
        // The two alphabets of base64 differ in this one.
        assert!(other.is(r#""a2VpbiAiV2VydCI/""#) && other.is(r#""a2VpbiAiV2VydCI_""#));
    }
}
