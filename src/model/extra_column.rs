//! Columns that a table does not declare and that queries read all the same: each is one field of
//! `extra_fields`.
//!
//! A query must not see another value after a restart, when rows come from a `jsonb` column, than from the
//! event's own text. So a column whose type nobody has named is what `extra_fields ->> 'FIELD'` is in
//! PostgreSQL. One of a named type has a value where the field is exactly one of it, and else NULL.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::DataType;
use serde_json::value::RawValue;

use super::sure_type::SureValue;
use super::{SureType, Table};

/// The values of a table's extra columns, given `extra_fields` of the same rows.
pub fn extract(table: &Table, extra_fields: &StringArray) -> Vec<ArrayRef> {
    let fields = &table.options.extra;
    if fields.is_empty() {
        return Vec::new();
    }
    let rows: Vec<Option<Object<'_>>> = extra_fields.iter().map(object).collect();
    let columns = fields.iter().zip(&table.columns[table.declared().len()..]);
    let array = |(field, column): (&String, &super::Column)| {
        let name = Name(Cow::Borrowed(field));
        let raw = rows.iter().map(|row| Some(row.as_ref()?.get(&name)?.get()));
        let raw: Vec<Option<&str>> = raw.collect();
        array(&raw, &column.data_type)
    };
    columns.map(array).collect()
}

fn object(text: Option<&str>) -> Option<Object<'_>> {
    serde_json::from_str(text?).ok()
}

/// The fields of an object in the order of `jsonb`, each with its text; none if it is no object.
pub(super) fn raw_fields(text: &str) -> Vec<(String, &str)> {
    let fields = object(Some(text)).unwrap_or_default().into_iter();
    fields.map(|(Name(name), raw)| (name.into_owned(), raw.get())).collect()
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

/// Of two fields with one name the last counts.
type Object<'a> = BTreeMap<Name<'a>, &'a RawValue>;

/// In the order of `jsonb`: shorter names come first.
#[derive(Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl PartialOrd for Name<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.len(), self.0.as_bytes()).cmp(&(other.0.len(), other.0.as_bytes()))
    }
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
            for (Name(name), value) in serde_json::from_str::<Object<'_>>(raw).unwrap_or_default() {
                text.push_str(separator);
                text.push_str(&serde_json::Value::from(&*name).to_string());
                text.push_str(": ");
                write(value.get(), text);
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

/// All digits of a number, without an exponent: `1.50e1` is `15.0`.
pub(super) fn write_number(raw: &str, text: &mut String) {
    let (number, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let Ok(exponent) = exponent.parse::<i64>() else {
        text.push_str(raw);
        return;
    };
    let digits = format!("{whole}{fraction}");
    // Where the point stands among the digits.
    let point = whole.len() as i64 + exponent;
    let places = (fraction.len() as i64 - exponent).max(0) as usize;
    let padded = match point {
        ..=0 => format!("{}{digits}", "0".repeat(1 + point.unsigned_abs() as usize)),
        _ => format!("{digits:0<width$}", width = point as usize),
    };
    let (whole, fraction) = padded.split_at(padded.len() - places);
    let whole = whole.trim_start_matches('0');
    if is_negative && digits.bytes().any(|digit| digit != b'0') {
        text.push('-');
    }
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
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
