//! Text of a document into the type of its column, exactly or not at all.

use arrow::datatypes::DataType;
use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::model::scalar::Scalar;

const NOT_A_NUMBER: &str = "is not a number";
const NOT_A_TIME: &str = "is not a date or time";
const OUT_OF_RANGE: &str = "is out of range";
const INEXACT: &str = "has more digits than the column keeps";

/// Text stays as it is; of other types space around the value does not count, and no characters are no value.
///
/// # Errors
/// Why the type can't hold exactly this value, to be read on after the value. A float column takes the nearest.
pub(super) fn parse<'a>(text: &'a str, data_type: &DataType) -> Result<Scalar<'a>, &'static str> {
    if *data_type == DataType::Utf8 {
        return Ok(Scalar::Text(text));
    }
    let text = text.trim_ascii();
    if text.is_empty() {
        return Ok(Scalar::Null);
    }
    match data_type {
        DataType::Boolean => match text {
            "true" | "1" => Ok(Scalar::Bool(true)),
            "false" | "0" => Ok(Scalar::Bool(false)),
            _ => Err("is not true, false, 1 or 0"),
        },
        DataType::Int16 => integer(text, i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => integer(text, i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => integer(text, i64::MIN, i64::MAX),
        DataType::Decimal128(precision, scale) => {
            let unscaled = decimal(text, u32::from(scale.unsigned_abs()))?;
            let limit = 10_u128.pow(u32::from(*precision).min(38));
            if unscaled.unsigned_abs() >= limit {
                return Err(OUT_OF_RANGE);
            }
            Ok(Scalar::Decimal(unscaled))
        }
        DataType::Float64 => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Scalar::Float(value)),
            Ok(_) => Err(OUT_OF_RANGE),
            Err(_) => Err(NOT_A_NUMBER),
        },
        DataType::Date32 => date(text).map(Scalar::Int),
        DataType::Timestamp(_, _) => timestamp(text).map(Scalar::Int),
        _ => Err("has a type that XML has no form for"),
    }
}

fn integer(text: &str, least: i64, most: i64) -> Result<Scalar<'static>, &'static str> {
    let value = match text.parse::<i64>() {
        Ok(value) => value,
        // 2.0 is a whole number too.
        Err(_) => i64::try_from(decimal(text, 0)?).map_err(|_| OUT_OF_RANGE)?,
    };
    if (least..=most).contains(&value) { Ok(Scalar::Int(value)) } else { Err(OUT_OF_RANGE) }
}

/// Digit by digit: no binary float is in between.
fn decimal(text: &str, scale: u32) -> Result<i128, &'static str> {
    let (is_negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let (mut unscaled, mut places, mut has_point, mut has_digit) = (0_i128, 0, false, false);
    for byte in digits {
        match byte {
            b'.' if !has_point => has_point = true,
            b'0'..=b'9' => {
                has_digit = true;
                let digit = i128::from(byte - b'0');
                if has_point && places == scale {
                    if digit != 0 {
                        return Err(INEXACT);
                    }
                    continue;
                }
                places += u32::from(has_point);
                let next = unscaled.checked_mul(10).and_then(|value| value.checked_add(digit));
                unscaled = next.ok_or(OUT_OF_RANGE)?;
            }
            _ => return Err(NOT_A_NUMBER),
        }
    }
    if !has_digit {
        return Err(NOT_A_NUMBER);
    }
    let power = 10_i128.checked_pow(scale - places);
    let unscaled = power.and_then(|power| unscaled.checked_mul(power)).ok_or(OUT_OF_RANGE)?;
    Ok(if is_negative { -unscaled } else { unscaled })
}

/// `2024-01-20`, also with the `Z` that XML Schema allows.
fn date(text: &str) -> Result<i64, &'static str> {
    let day = NaiveDate::parse_from_str(text.trim_end_matches('Z'), "%Y-%m-%d");
    let day = day.map_err(|_| NOT_A_TIME)?;
    Ok(day.signed_duration_since(NaiveDate::default()).num_days())
}

/// Microseconds since 1970 of `2024-01-15T10:00:00.5`, with an offset or without, and of a date.
fn timestamp(text: &str) -> Result<i64, &'static str> {
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return exact_micros(zoned.naive_utc());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return exact_micros(time);
        }
    }
    date(text)?.checked_mul(86_400_000_000).ok_or(OUT_OF_RANGE)
}

fn exact_micros(time: NaiveDateTime) -> Result<i64, &'static str> {
    let utc = time.and_utc();
    match utc.timestamp_subsec_nanos() % 1000 {
        0 => Ok(utc.timestamp_micros()),
        _ => Err(INEXACT),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn numbers_are_exact_or_refused() {
        let decimal = DataType::Decimal128(5, 2);
        let cases = [
            ("19.99", Ok(1999)),
            (" -1 ", Ok(-100)),
            ("+.5", Ok(50)),
            ("1.500", Ok(150)),
            ("999.99", Ok(99_999)),
            ("1000", Err(OUT_OF_RANGE)),
            ("1.234", Err(INEXACT)),
            ("1e2", Err(NOT_A_NUMBER)),
            (".", Err(NOT_A_NUMBER)),
            ("1.2.3", Err(NOT_A_NUMBER)),
            ("123456789012345678901234567890123456789012", Err(OUT_OF_RANGE)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, &decimal), expected.map(Scalar::Decimal), "{text}");
        }
        let integers =
            [("2", Ok(2)), ("2.0", Ok(2)), ("2.5", Err(INEXACT)), ("two", Err(NOT_A_NUMBER))];
        for (text, expected) in integers {
            assert_eq!(parse(text, &DataType::Int32), expected.map(Scalar::Int), "{text}");
        }
        assert_eq!(parse("40000", &DataType::Int16), Err(OUT_OF_RANGE));
        assert_eq!(parse("1e400", &DataType::Float64), Err(OUT_OF_RANGE));
        assert_eq!(parse("0.1", &DataType::Float64), Ok(Scalar::Float(0.1)));
    }

    #[test]
    fn times_are_those_of_xml_schema() {
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        let cases = [
            ("1970-01-01T00:00:01.5Z", Ok(1_500_000)),
            ("1970-01-01T02:00:00+02:00", Ok(0)),
            ("1970-01-01 00:00:01", Ok(1_000_000)),
            ("1970-01-02", Ok(86_400_000_000)),
            ("1970-01-01T00:00:00.0000001", Err(INEXACT)),
            ("yesterday", Err(NOT_A_TIME)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, &timestamp), expected.map(Scalar::Int), "{text}");
        }
        assert_eq!(parse("1970-01-03Z", &DataType::Date32), Ok(Scalar::Int(2)));
    }

    #[test]
    fn only_text_can_be_empty() {
        assert_eq!(parse("", &DataType::Utf8), Ok(Scalar::Text("")));
        assert_eq!(parse(" a ", &DataType::Utf8), Ok(Scalar::Text(" a ")));
        assert_eq!(parse(" ", &DataType::Int64), Ok(Scalar::Null));
        assert_eq!(parse("1", &DataType::Boolean), Ok(Scalar::Bool(true)));
        assert!(parse("yes", &DataType::Boolean).is_err());
    }
}
