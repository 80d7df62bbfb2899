//! One JSON value into the type of its column.

use std::borrow::Cow;

use chrono::DateTime;

use super::column_kind::ColumnKind;
use super::decimal::Exact;
use super::encoding::{Encoding, Semantic};
use super::error::ValueError;
use super::json::Json;
use super::number::{DecimalType, exact};
use super::time::{self, Unit};
use super::{binary, time_struct};
use crate::model::scalar::Scalar;

/// A converted cell.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::decode) enum Value<'a> {
    #[default]
    Null,
    /// Not in the event because the LOB did not change.
    Unchanged,
    Bool(bool),
    /// Also days and microseconds since 1970.
    Int(i64),
    Float(f64),
    /// The unscaled value at the declared scale.
    Decimal(i128),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
}

impl Value<'_> {
    /// What its column holds: nothing in place of a LOB that is not in the event.
    pub(in crate::decode) fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Null | Self::Unchanged => Scalar::Null,
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Int(value) => Scalar::Int(*value),
            Self::Float(value) => Scalar::Float(*value),
            Self::Decimal(value) => Scalar::Decimal(*value),
            Self::Text(value) => Scalar::Text(value),
            Self::Bytes(value) => Scalar::Bytes(value),
        }
    }

    pub(in crate::decode) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }
}

/// Converts the JSON text of a value.
///
/// # Errors
/// If the column's type cannot hold exactly this value. Exceptions by declaration: a float column
/// takes the nearest float, a timestamp is cut to microseconds when it comes in nanoseconds.
pub(in crate::decode) fn convert(
    raw: &str,
    kind: ColumnKind,
    encoding: Encoding,
) -> Result<Value<'_>, ValueError> {
    let json = Json::read(raw)?;
    if matches!(json, Json::Null) {
        return Ok(Value::Null);
    }
    match kind {
        ColumnKind::Boolean => boolean(&json, encoding).map(Value::Bool),
        ColumnKind::Int16 => integer(&json, encoding, i16::MIN.into()..=i16::MAX.into()),
        ColumnKind::Int32 => integer(&json, encoding, i32::MIN.into()..=i32::MAX.into()),
        ColumnKind::Int64 => integer(&json, encoding, i64::MIN..=i64::MAX),
        ColumnKind::Float64 => float(&json, encoding).map(Value::Float),
        ColumnKind::Decimal { precision, scale } => {
            let exact = exact(&json, encoding, Some(DecimalType { precision, scale }))?;
            exact.at_precision(precision, scale).map(Value::Decimal)
        }
        ColumnKind::Text => text(json, encoding).map(Value::Text),
        ColumnKind::Binary => match &json {
            Json::Text(text) => binary::read(text, encoding.semantic).map(Value::Bytes),
            _ => Err(ValueError::Not { expected: "base64 or hexadecimal" }),
        },
        ColumnKind::Date => date(&json, encoding).map(Value::Int),
        ColumnKind::Timestamp => timestamp(&json, encoding).map(Value::Int),
    }
}

/// The value in a form that tells what it is without its schema: numbers with all their digits, times as
/// ISO text; `None` if its own form does, or if it can't be read.
pub(in crate::decode) fn self_describing(raw: &str, semantic: Semantic) -> Option<String> {
    let encoding = Encoding { semantic, is_remembered: false };
    let json = Json::read(raw).ok().filter(|json| *json != Json::Null)?;
    match semantic {
        Semantic::Decimal { .. } | Semantic::VariableScale => {
            exact(&json, encoding, None).ok()?.digits().ok()
        }
        Semantic::Instant(Unit::Days) => {
            let micros = time::micros_of_days(date(&json, encoding).ok()?)?;
            Some(DateTime::from_timestamp_micros(micros)?.format("\"%Y-%m-%d\"").to_string())
        }
        Semantic::Instant(_) => {
            let micros = timestamp(&json, encoding).ok()?;
            let time = DateTime::from_timestamp_micros(micros)?;
            Some(time.format("\"%Y-%m-%dT%H:%M:%S%.6f\"").to_string())
        }
        _ => None,
    }
}

/// Text as it is, of numbers their digits, and everything else as its JSON text.
fn text<'a>(json: Json<'a>, encoding: Encoding) -> Result<Cow<'a, str>, ValueError> {
    let is_number = match encoding.semantic {
        Semantic::Decimal { .. } => matches!(json, Json::Text(_)),
        Semantic::VariableScale => matches!(json, Json::Nested(_)),
        _ => false,
    };
    if is_number {
        Ok(Cow::Owned(exact(&json, encoding, None)?.digits()?))
    } else {
        Ok(json.into_text())
    }
}

fn boolean(json: &Json<'_>, encoding: Encoding) -> Result<bool, ValueError> {
    let expected = ValueError::Not { expected: "a boolean" };
    match json {
        Json::Bool(value) => return Ok(*value),
        Json::Text(text) if text == "true" => return Ok(true),
        Json::Text(text) if text == "false" => return Ok(false),
        _ => {}
    }
    match exact(json, encoding, None).and_then(|number| number.at_scale(0)) {
        Ok(0) => Ok(false),
        Ok(1) => Ok(true),
        _ => Err(expected),
    }
}

fn integer<'a>(
    json: &Json<'a>,
    encoding: Encoding,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Value<'a>, ValueError> {
    let value = match json.number().and_then(|number| number.parse().ok()) {
        Some(value) => value,
        None => {
            let unscaled = exact(json, encoding, None)?.at_scale(0)?;
            i64::try_from(unscaled).map_err(|_| ValueError::OutOfRange)?
        }
    };
    if range.contains(&value) { Ok(Value::Int(value)) } else { Err(ValueError::OutOfRange) }
}

fn float(json: &Json<'_>, encoding: Encoding) -> Result<f64, ValueError> {
    let text = match (json, encoding.semantic) {
        (Json::Text(text), Semantic::Unknown | Semantic::Text) => Some(&**text),
        _ => json.number(),
    };
    let value = match text {
        Some(text) => {
            let parsed: Option<f64> = text.parse().ok();
            Some(parsed.ok_or(ValueError::Not { expected: "a number" })?)
        }
        None => exact(json, encoding, None)?.to_f64(),
    };
    value.filter(|value| value.is_finite()).ok_or(ValueError::OutOfRange)
}

fn timestamp(json: &Json<'_>, encoding: Encoding) -> Result<i64, ValueError> {
    if let Json::Nested(raw) = json {
        return time::in_range(time_struct::micros(raw)?);
    }
    let micros = match (count(json)?, encoding.semantic) {
        (Ok(count), Semantic::Instant(unit)) => unit.micros(count).ok_or(ValueError::OutOfRange)?,
        (Ok(count), _) => time::micros_by_magnitude(count)?,
        (Err(text), _) => time::micros_of_text(text)?,
    };
    time::in_range(micros)
}

fn date(json: &Json<'_>, encoding: Encoding) -> Result<i64, ValueError> {
    if let Json::Nested(raw) = json {
        return time::date_in_range(time::days_of(time_struct::micros(raw)?)?);
    }
    let days = match (count(json)?, encoding.semantic) {
        (Ok(count), Semantic::Instant(Unit::Days)) => count,
        (Ok(count), Semantic::Instant(unit)) => {
            time::days_of(unit.micros(count).ok_or(ValueError::OutOfRange)?)?
        }
        (Ok(count), _) => time::days_by_magnitude(count)?,
        (Err(text), _) => time::days_of(time::micros_of_text(text)?)?,
    };
    time::date_in_range(days)
}

/// The integral number that a value is, or its text if that is none.
fn count<'a>(json: &'a Json<'_>) -> Result<Result<i64, &'a str>, ValueError> {
    let (text, is_number) = match json {
        Json::Number(number) => (*number, true),
        Json::Text(text) => (&**text, false),
        _ => return Err(ValueError::Not { expected: "a date or time" }),
    };
    if let Ok(count) = text.parse() {
        return Ok(Ok(count));
    }
    if !is_number {
        return Ok(Err(text));
    }
    let unscaled = Exact::parse(text)?.at_scale(0)?;
    i64::try_from(unscaled).map(Ok).map_err(|_| ValueError::OutOfRange)
}

/// Microseconds since 1970 of a text, or of a count whose unit its magnitude tells; `None` if it is neither.
pub(in crate::decode) fn instant(text: &str) -> Option<i64> {
    match text.parse() {
        Ok(count) => time::micros_by_magnitude(count).ok(),
        Err(_) => time::micros_of_text(text).ok(),
    }
}

/// Days since 1970 as microseconds; `None` beyond what a timestamp holds.
pub(in crate::decode) fn micros_of_days(days: i64) -> Option<i64> {
    time::micros_of_days(days)
}
