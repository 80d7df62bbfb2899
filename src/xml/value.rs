//! Text of a document into the type of its column, exactly or not at all.

use arrow::datatypes::DataType;
use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::model::scalar::Scalar;

const NOT_A_NUMBER: &str = "is not a number";
const NOT_A_TIME: &str = "is not a date or time";
const OUT_OF_RANGE: &str = "is out of range";
const MICROS_PER_DAY: i64 = 86_400_000_000;
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
            let unscaled = decimal(text, i64::from(*scale))?;
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
        // 2.0 and 2.0E0 are whole numbers too.
        Err(_) => i64::try_from(decimal(text, 0)?).map_err(|_| OUT_OF_RANGE)?,
    };
    if (least..=most).contains(&value) { Ok(Scalar::Int(value)) } else { Err(OUT_OF_RANGE) }
}

/// The unscaled value of `19.99` and of `1.999E+001`, as Oracle writes a double. Digit by digit: no binary float
/// is in between.
fn decimal(text: &str, scale: i64) -> Result<i128, &'static str> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent: i64 = exponent.parse::<i32>().map_err(|_| NOT_A_NUMBER)?.into();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    if !has_digits || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return Err(NOT_A_NUMBER);
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let zeros = (digits.len() - significant.len()) as i64;
    let shift = scale + exponent + zeros - fraction.len() as i64;
    if shift < 0 {
        return Err(INEXACT);
    }
    let power = u32::try_from(shift).ok().and_then(|shift| 10_i128.checked_pow(shift));
    let digits = significant.trim_start_matches('0').parse::<i128>().ok();
    let unscaled = power.zip(digits).and_then(|(power, digits)| digits.checked_mul(power));
    let unscaled = unscaled.ok_or(OUT_OF_RANGE)?;
    Ok(if text.starts_with('-') { -unscaled } else { unscaled })
}

/// `2024-01-20`, also with the zone that XML Schema allows: the day is the one that is written.
fn date(text: &str) -> Result<i64, &'static str> {
    let day = NaiveDate::parse_from_str(without_zone(text), "%Y-%m-%d");
    let day = day.map_err(|_| NOT_A_TIME)?;
    Ok(day.signed_duration_since(NaiveDate::default()).num_days())
}

/// Without `Z`, `+02:00`.
fn without_zone(text: &str) -> &str {
    if let Some(date) = text.strip_suffix('Z') {
        return date;
    }
    let Some((date, zone)) = text.len().checked_sub(6).and_then(|at| text.split_at_checked(at))
    else {
        return text;
    };
    let is_zone = matches!(zone.as_bytes(), [b'+' | b'-', h1, h2, b':', m1, m2]
        if [h1, h2, m1, m2].iter().all(|digit| digit.is_ascii_digit()));
    if is_zone { date } else { text }
}

/// Microseconds since 1970 of `2024-01-15T10:00:00.5`, with an offset or without, and of a date. What is below a
/// microsecond is cut, as in events. `24:00:00` is the end of a day.
fn timestamp(text: &str) -> Result<i64, &'static str> {
    if let Some((day, rest)) = text.split_once("T24:00:00") {
        let rest = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches('0'));
        let next = micros(&format!("{day}T00:00:00{rest}"))?;
        return next.checked_add(MICROS_PER_DAY).ok_or(OUT_OF_RANGE);
    }
    micros(text)
}

fn micros(text: &str) -> Result<i64, &'static str> {
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return Ok(zoned.timestamp_micros());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(time.and_utc().timestamp_micros());
        }
    }
    date(text)?.checked_mul(MICROS_PER_DAY).ok_or(OUT_OF_RANGE)
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
            // As Oracle writes a double.
            ("1e2", Ok(10_000)),
            ("1.05E+002", Ok(10_500)),
            ("1.0E-002", Ok(1)),
            ("-15.0E-1", Ok(-150)),
            ("1.05E+003", Err(OUT_OF_RANGE)),
            ("1.0E-003", Err(INEXACT)),
            ("0E99", Ok(0)),
            ("1E999999999", Err(OUT_OF_RANGE)),
            ("1E", Err(NOT_A_NUMBER)),
            ("E1", Err(NOT_A_NUMBER)),
            ("--1", Err(NOT_A_NUMBER)),
            (".", Err(NOT_A_NUMBER)),
            ("1.2.3", Err(NOT_A_NUMBER)),
            ("123456789012345678901234567890123456789012", Err(OUT_OF_RANGE)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, &decimal), expected.map(Scalar::Decimal), "{text}");
        }
        let integers = [
            ("2", Ok(2)),
            ("2.0", Ok(2)),
            ("2.0E0", Ok(2)),
            ("2.5", Err(INEXACT)),
            ("two", Err(NOT_A_NUMBER)),
        ];
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
            ("1970-01-01T00:00:00.0000001", Ok(0)),
            ("1970-01-01T00:00:00.123456789Z", Ok(123_456)),
            ("1969-12-31T23:59:59.999999999", Ok(-1)),
            ("1970-01-02T00:00:00.5+24:00", Err(NOT_A_TIME)),
            ("1970-01-01T24:00:00", Ok(86_400_000_000)),
            ("1970-01-01T24:00:00.000+01:00", Ok(82_800_000_000)),
            ("1970-01-01T24:00:01", Err(NOT_A_TIME)),
            ("1970-01-02+02:00", Ok(86_400_000_000)),
            ("yesterday", Err(NOT_A_TIME)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, &timestamp), expected.map(Scalar::Int), "{text}");
        }
        for day in ["1970-01-03", "1970-01-03Z", "1970-01-03+02:00", " 1970-01-03-11:00 "] {
            assert_eq!(parse(day, &DataType::Date32), Ok(Scalar::Int(2)), "{day}");
        }
        for day in ["1970-01-03ZZ", "1970-01-03+2", "1970-01-03+02:00+02:00"] {
            assert_eq!(parse(day, &DataType::Date32), Err(NOT_A_TIME), "{day}");
        }
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
