//! One JSON value into the declared type of its column, exactly or not at all.

mod binary;
mod decimal;
mod json;
mod time;
mod time_struct;
mod unavailable;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use arrow::datatypes::DataType;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use serde::Deserialize;

use crate::model::WrittenAs;
use decimal::Exact;
use json::Json;
pub(in crate::decode) use json::has_bad_escape;
pub(in crate::decode) use time::Unit;
pub(in crate::decode) use unavailable::Unavailable;

/// A declared type, reduced to what the conversion needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decode) enum Kind {
    Boolean,
    Int16,
    Int32,
    Int64,
    Float64,
    Decimal { precision: u8, scale: i8 },
    Text,
    Binary,
    Date,
    Timestamp,
}

impl Kind {
    /// `None` for a type that no declared column has.
    pub(in crate::decode) fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Boolean => Some(Self::Boolean),
            DataType::Int16 => Some(Self::Int16),
            DataType::Int32 => Some(Self::Int32),
            DataType::Int64 => Some(Self::Int64),
            DataType::Float64 => Some(Self::Float64),
            DataType::Decimal128(precision, scale) => {
                Some(Self::Decimal { precision: *precision, scale: *scale })
            }
            DataType::Utf8 => Some(Self::Text),
            DataType::Binary => Some(Self::Binary),
            DataType::Date32 => Some(Self::Date),
            DataType::Timestamp(_, _) => Some(Self::Timestamp),
            _ => None,
        }
    }
}

/// What the schema section says about a field, as far as its JSON form leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::decode) enum Semantic {
    #[default]
    Unknown,
    /// A count since 1970 in this unit.
    Instant(Unit),
    /// Base64 of the unscaled value.
    Decimal {
        scale: i64,
    },
    /// A number with its scale beside it.
    VariableScale,
    /// Plain text, so certainly no base64.
    Text,
    /// Bytes in base64.
    Base64,
    Base64Url,
    Hex,
}

impl Semantic {
    /// What a declaration says about a column.
    pub(in crate::decode) fn declared(written: WrittenAs, kind: Kind) -> Self {
        match (written, kind) {
            (WrittenAs::Text, _) => Self::Text,
            (WrittenAs::Base64, Kind::Binary) => Self::Base64,
            (WrittenAs::Base64, Kind::Decimal { scale, .. }) => {
                Self::Decimal { scale: scale.into() }
            }
            (WrittenAs::Base64, _) => Self::Decimal { scale: 0 },
            (WrittenAs::Base64Url, _) => Self::Base64Url,
            (WrittenAs::Hex, _) => Self::Hex,
            (WrittenAs::Days, _) => Self::Instant(Unit::Days),
            (WrittenAs::Millis, _) => Self::Instant(Unit::Millis),
            (WrittenAs::Micros, _) => Self::Instant(Unit::Micros),
            (WrittenAs::Nanos, _) => Self::Instant(Unit::Nanos),
        }
    }

    /// What an event says, or else the declaration.
    pub(in crate::decode) fn or(self, declared: Option<Self>) -> Self {
        match self {
            Self::Unknown => declared.unwrap_or_default(),
            // Bytes are texts too, in some mode.
            Self::Text => match declared {
                Some(Self::Base64 | Self::Base64Url | Self::Hex) => declared.unwrap_or_default(),
                _ => self,
            },
            _ => self,
        }
    }
}

/// The semantic of a field and how we know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::decode) struct Encoding {
    pub(in crate::decode) semantic: Semantic,
    /// From an earlier event of the table: this one came without a schema section.
    pub(in crate::decode) is_remembered: bool,
}

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
    pub(in crate::decode) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }
}

/// Why a value is not one of its column's type; reads on after the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::decode) enum ValueError {
    #[error("is not {expected}")]
    Not { expected: &'static str },
    #[error("is out of range")]
    OutOfRange,
    #[error("has more digits than the column keeps")]
    Inexact,
    #[error("has a time of day: declare the column as TIMESTAMP")]
    TimeOfDay,
    #[error(
        "may be days, seconds, ms, µs or ns: enable the schema section of the converter \
         (schemas.enable), set time.precision.mode=isostring, or say the unit in the option encodings of \
         the table"
    )]
    AmbiguousTime,
    #[error(
        "may be decimal text or base64: enable the schema section of the converter, or say which in the \
         option encodings of the table"
    )]
    AmbiguousDecimal,
    #[error(
        "is not a number, but may be one in base64: enable the schema section of the converter, or say so in \
         the option encodings of the table"
    )]
    UntoldBase64,
    #[error(
        "may be base64 or hexadecimal: enable the schema section of the converter, or say which in the option \
         encodings of the table"
    )]
    AmbiguousBinary,
    #[error("holds a NUL character or half a surrogate pair, which Postgres cannot store")]
    BadCharacter,
}

/// Converts the JSON text of a value.
///
/// # Errors
/// If the column's type cannot hold exactly this value. Exceptions by declaration: a float column
/// takes the nearest float, a timestamp is cut to microseconds when it comes in nanoseconds.
pub(in crate::decode) fn convert(
    raw: &str,
    kind: Kind,
    encoding: Encoding,
) -> Result<Value<'_>, ValueError> {
    let json = Json::read(raw)?;
    if matches!(json, Json::Null) {
        return Ok(Value::Null);
    }
    match kind {
        Kind::Boolean => boolean(&json, encoding).map(Value::Bool),
        Kind::Int16 => integer(&json, encoding, i16::MIN.into()..=i16::MAX.into()),
        Kind::Int32 => integer(&json, encoding, i32::MIN.into()..=i32::MAX.into()),
        Kind::Int64 => integer(&json, encoding, i64::MIN..=i64::MAX),
        Kind::Float64 => float(&json, encoding).map(Value::Float),
        Kind::Decimal { precision, scale } => {
            let exact = exact(&json, encoding, Some(scale))?;
            exact.at_precision(precision, scale).map(Value::Decimal)
        }
        Kind::Text => text(json, encoding).map(Value::Text),
        Kind::Binary => match &json {
            Json::Text(text) => binary::read(text, encoding.semantic).map(Value::Bytes),
            _ => Err(ValueError::Not { expected: "base64 or hexadecimal" }),
        },
        Kind::Date => date(&json, encoding).map(Value::Int),
        Kind::Timestamp => timestamp(&json, encoding).map(Value::Int),
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
    match is_number {
        true => Ok(Cow::Owned(exact(&json, encoding, None)?.digits()?)),
        false => Ok(json.into_text()),
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

/// A number in any of its forms: JSON number, decimal text, base64, `VariableScaleDecimal`.
///
/// Text that nobody told about is base64 only in a DECIMAL column, at its scale, and there it is refused if it
/// is a number as well, such as `1234`.
fn exact(
    json: &Json<'_>,
    encoding: Encoding,
    declared_scale: Option<i8>,
) -> Result<Exact, ValueError> {
    let text = match json {
        Json::Number(number) => return Exact::parse(number),
        Json::Nested(raw) => return variable_scale(raw),
        Json::Text(text) => text,
        Json::Null | Json::Bool(_) => return Err(ValueError::Not { expected: "a number" }),
    };
    match (encoding.semantic, Exact::parse(text)) {
        (Semantic::Decimal { scale }, _) if !encoding.is_remembered => unscaled(text, scale),
        (Semantic::Decimal { scale }, Err(ValueError::Not { .. })) => unscaled(text, scale),
        // The connector may have been switched to text since: both readings are plausible.
        (Semantic::Decimal { scale }, _) if unscaled(text, scale).is_ok() => {
            Err(ValueError::AmbiguousDecimal)
        }
        (Semantic::Unknown | Semantic::Instant(_), parsed) => untold(text, parsed, declared_scale),
        // A plain NUMBER, which is never base64 alone.
        (Semantic::VariableScale, parsed) => parsed,
        (Semantic::Base64 | Semantic::Base64Url | Semantic::Hex, _) => {
            Err(ValueError::Not { expected: "a number" })
        }
        (Semantic::Decimal { .. } | Semantic::Text, parsed) => parsed,
    }
}

/// Both readings are refused even if only one of them fits into the column: the other one may be the value,
/// and too large for it.
fn untold(
    text: &str,
    parsed: Result<Exact, ValueError>,
    declared_scale: Option<i8>,
) -> Result<Exact, ValueError> {
    let Some(scale) = declared_scale else {
        let is_base64 = !text.is_empty() && STANDARD.decode(text).is_ok();
        return match parsed {
            Err(ValueError::Not { .. }) if is_base64 => Err(ValueError::UntoldBase64),
            parsed => parsed,
        };
    };
    match (parsed, unscaled(text, scale.into())) {
        (Ok(_), Ok(_)) => Err(ValueError::AmbiguousDecimal),
        (Err(ValueError::Not { .. }), base64) => base64,
        (parsed, _) => parsed,
    }
}

/// Source: Kafka Connect's `Decimal` and `JsonConverter`: base64 of `BigInteger.toByteArray()`.
fn unscaled(text: &str, scale: i64) -> Result<Exact, ValueError> {
    let not = ValueError::Not { expected: "a number" };
    // Most texts are no base64 already by their length.
    if !text.len().is_multiple_of(4) {
        return Err(not);
    }
    let bytes = STANDARD.decode(text).map_err(|_| not)?;
    Exact::from_be_bytes(&bytes, scale)
}

/// Source: Debezium's `io.debezium.data.VariableScaleDecimal`, its form of a plain NUMBER.
fn variable_scale(raw: &str) -> Result<Exact, ValueError> {
    #[derive(Deserialize)]
    struct VariableScale<'a> {
        scale: i32,
        #[serde(borrow)]
        value: Cow<'a, str>,
    }
    let expected = ValueError::Not { expected: "a number" };
    // An array of the two fields would do for serde.
    if !raw.starts_with('{') {
        return Err(expected);
    }
    let decimal: VariableScale<'_> = serde_json::from_str(raw).map_err(|_| expected)?;
    unscaled(&decimal.value, decimal.scale.into())
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
