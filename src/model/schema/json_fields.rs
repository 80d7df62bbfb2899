//! Fields of JSON objects, as `jsonb` has them: their order, their texts, and arrays of their values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::DataType;
use serde_json::value::RawValue;

use super::json_number::write_number;
use super::sure_type::{SureType, SureValue};

/// A JSON object with the texts of its fields. Of two fields with one name the last counts.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(transparent)]
pub(super) struct JsonObject<'a>(#[serde(borrow)] BTreeMap<JsonName<'a>, &'a RawValue>);

impl<'a> JsonObject<'a> {
    /// `None` if the text is no object.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(&JsonName(Cow::Borrowed(name))).map(|raw| raw.get())
    }

    /// The fields in the order of `jsonb`, each with its text.
    pub(super) fn into_fields(self) -> impl Iterator<Item = (String, &'a str)> {
        self.0.into_iter().map(|(JsonName(name), raw)| (name.into_owned(), raw.get()))
    }
}

/// In the order of `jsonb`: shorter names come first.
#[derive(Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
struct JsonName<'a>(#[serde(borrow)] Cow<'a, str>);

impl PartialOrd for JsonName<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for JsonName<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.len(), self.0.as_bytes()).cmp(&(other.0.len(), other.0.as_bytes()))
    }
}

/// The values of one column, given the fields of its rows.
pub(super) fn array(raw: &[Option<&str>], data_type: &DataType) -> ArrayRef {
    let ints = |known: SureType| -> Vec<Option<i64>> {
        read(raw, known, |value| match value {
            SureValue::Int(value) => Some(value),
            _ => None,
        })
    };
    match data_type {
        DataType::Boolean => {
            Arc::new(BooleanArray::from(read(raw, SureType::Boolean, |value| match value {
                SureValue::Boolean(value) => Some(value),
                _ => None,
            })))
        }
        DataType::Int64 => Arc::new(Int64Array::from(ints(SureType::Bigint))),
        DataType::Float64 => {
            Arc::new(Float64Array::from(read(raw, SureType::Double, |value| match value {
                SureValue::Double(value) => Some(value),
                _ => None,
            })))
        }
        DataType::Timestamp(..) => {
            Arc::new(TimestampMicrosecondArray::from(ints(SureType::Timestamp)))
        }
        DataType::Date32 => {
            let days = ints(SureType::Date).into_iter();
            Arc::new(days.map(|days| i32::try_from(days?).ok()).collect::<Date32Array>())
        }
        DataType::Decimal128(precision, scale) => {
            let known = SureType::Decimal { scale: scale.unsigned_abs() };
            let values = read(raw, known, |value| match value {
                SureValue::Decimal(value) => Some(value),
                _ => None,
            });
            let array = Decimal128Array::from(values).with_precision_and_scale(*precision, *scale);
            Arc::new(array.expect("the type is one that a table can have"))
        }
        _ => Arc::new(raw.iter().map(|raw| text_of((*raw)?)).collect::<StringArray>()),
    }
}

fn read<T>(
    raw: &[Option<&str>],
    known: SureType,
    value: impl Fn(SureValue) -> Option<T>,
) -> Vec<Option<T>> {
    raw.iter().map(|raw| known.read((*raw)?).and_then(&value)).collect()
}

/// As `->>` gives it: a text without its quotes, everything else as `jsonb` writes it; `None` for null.
fn text_of(raw: &str) -> Option<String> {
    match raw.as_bytes().first() {
        None | Some(b'n') => None,
        Some(b'"') => serde_json::from_str(raw).ok(),
        Some(_) => {
            let mut text = String::with_capacity(raw.len());
            write(raw, &mut text);
            Some(text)
        }
    }
}

/// Writes a valid JSON value as `jsonb` does.
fn write(raw: &str, text: &mut String) {
    let raw = raw.trim();
    let mut separator = "";
    match raw.as_bytes().first() {
        Some(b'{') => {
            text.push('{');
            for (name, value) in JsonObject::parse(raw).unwrap_or_default().into_fields() {
                text.push_str(separator);
                text.push_str(&serde_json::Value::from(name).to_string());
                text.push_str(": ");
                write(value, text);
                separator = ", ";
            }
            text.push('}');
        }
        Some(b'[') => {
            text.push('[');
            for value in serde_json::from_str::<Vec<&RawValue>>(raw).unwrap_or_default() {
                text.push_str(separator);
                write(value.get(), text);
                separator = ", ";
            }
            text.push(']');
        }
        Some(b'"') => match serde_json::from_str::<serde_json::Value>(raw) {
            Ok(value) => text.push_str(&value.to_string()),
            Err(_) => text.push_str(raw),
        },
        Some(b'-' | b'0'..=b'9') => write_number(raw, text),
        _ => text.push_str(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::text_of;

    /// The right sides are PostgreSQL's own: `SELECT jsonb '...' ->> 0` of a list of one.
    #[test]
    fn a_value_is_what_jsonb_makes_of_it() {
        for (raw, expected) in [
            ("null", None),
            ("5", Some("5")),
            ("-0", Some("0")),
            ("-0.0", Some("0.0")),
            ("1.50", Some("1.50")),
            ("1e5", Some("100000")),
            ("1.50e1", Some("15.0")),
            ("1.5E+3", Some("1500")),
            ("1E-3", Some("0.001")),
            ("-12.5e-3", Some("-0.0125")),
            ("0.5e1", Some("5")),
            ("true", Some("true")),
            ("\"a\\u00e9\\n\\\"b\\\"\"", Some("aé\n\"b\"")),
            ("[1,\"x\\u00e9\",[ ],{}]", Some("[1, \"xé\", [], {}]")),
            ("{\"bb\":1e1,\"a\":{\"c\":null},\"a\":2}", Some("{\"a\": 2, \"bb\": 10}")),
        ] {
            assert_eq!(text_of(raw).as_deref(), expected, "{raw}");
        }
    }
}
