//! Numbers, against a reading of their digits that knows no arithmetic.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::case;
use crate::decode::debezium::{ColumnKind, Encoding, Semantic, Value, ValueError, convert};

const KINDS: [ColumnKind; 11] = [
    ColumnKind::Decimal { precision: 15, scale: 2 },
    ColumnKind::Decimal { precision: 38, scale: 0 },
    ColumnKind::Decimal { precision: 38, scale: 10 },
    ColumnKind::Decimal { precision: 38, scale: 38 },
    ColumnKind::Decimal { precision: 5, scale: -2 },
    ColumnKind::Int16,
    ColumnKind::Int64,
    ColumnKind::Boolean,
    ColumnKind::Float64,
    ColumnKind::Text,
    ColumnKind::Binary,
];

const ENCODINGS: [Encoding; 8] = [
    Encoding { semantic: Semantic::Unknown, is_remembered: true },
    Encoding { semantic: Semantic::Text, is_remembered: false },
    Encoding { semantic: Semantic::Decimal { scale: 2 }, is_remembered: false },
    Encoding { semantic: Semantic::Decimal { scale: 2 }, is_remembered: true },
    Encoding { semantic: Semantic::Decimal { scale: -3 }, is_remembered: false },
    Encoding { semantic: Semantic::VariableScale, is_remembered: false },
    Encoding { semantic: Semantic::Base64, is_remembered: false },
    Encoding { semantic: Semantic::Hex, is_remembered: true },
];

const TEXT: Encoding = ENCODINGS[1];

/// More places than any type has, so that no digit is far away.
const MAX_EXPONENT: u64 = 1000;

/// One value for a column of numbers, text or bytes.
///
/// # Panics
/// If a digit is lost or made up.
pub fn decimals(input: &[u8]) {
    let Some((kind, encoding, raw)) = case(input, &KINDS, &ENCODINGS) else { return };
    let value = convert(raw, kind, encoding);
    match (kind, &value) {
        (ColumnKind::Decimal { precision, scale }, Ok(Value::Decimal(unscaled))) => {
            assert!(unscaled.unsigned_abs() < 10_u128.pow(precision.into()), "{raw}");
            check_ways_back(*unscaled, kind, scale);
        }
        (ColumnKind::Int16 | ColumnKind::Int64, Ok(Value::Int(number))) => {
            assert_eq!(convert(&number.to_string(), kind, TEXT), value);
        }
        (ColumnKind::Float64, Ok(Value::Float(number))) => assert!(number.is_finite(), "{raw}"),
        (ColumnKind::Text, Ok(Value::Text(text))) => {
            assert!(!text.contains('\0') && text.len() <= raw.len() + 240, "{raw}");
        }
        (ColumnKind::Binary, Ok(Value::Bytes(bytes))) => assert!(bytes.len() <= raw.len()),
        (ColumnKind::Boolean, Ok(Value::Bool(_))) | (_, Ok(Value::Null) | Err(_)) => {}
        (_, Ok(other)) => assert_eq!(*other, Value::Null, "{raw}"),
    }
    if let Some(text) = number_text(raw, encoding) {
        check_digits(text, kind, &value);
    }
}

/// What was read once is read again, however it is written.
fn check_ways_back(unscaled: i128, kind: ColumnKind, scale: i8) {
    let base64 = STANDARD.encode(unscaled.to_be_bytes());
    let known =
        Encoding { semantic: Semantic::Decimal { scale: scale.into() }, is_remembered: false };
    let value = Ok(Value::Decimal(unscaled));
    assert_eq!(convert(&format!("{unscaled}E{}", -i32::from(scale)), kind, TEXT), value);
    assert_eq!(convert(&format!("\"{base64}\""), kind, known), value);
    let with_scale = format!(r#"{{"scale":{scale},"value":"{base64}"}}"#);
    assert_eq!(convert(&with_scale, kind, TEXT), value);
}

/// The text, if it can only be read as decimal digits.
fn number_text(raw: &str, encoding: Encoding) -> Option<&str> {
    match raw.as_bytes()[0] {
        b'-' | b'0'..=b'9' => Some(raw),
        b'"' if encoding == TEXT && !raw.contains('\\') => Some(&raw[1..raw.len() - 1]),
        _ => None,
    }
}

fn check_digits(text: &str, kind: ColumnKind, value: &Result<Value<'_>, ValueError>) {
    let (scale, precision) = match kind {
        ColumnKind::Decimal { precision, scale } => (i64::from(scale), usize::from(precision)),
        ColumnKind::Int16 | ColumnKind::Int64 => (0, 0),
        _ => return,
    };
    let Some((digits, point)) = digits_and_point(text) else { return };
    let expected = at_scale(&digits, point, scale);
    let is_negative = text.starts_with('-') && expected.as_deref() != Some("0");
    let signed = |digits: &str| format!("{}{digits}", if is_negative { "-" } else { "" });
    match value {
        Ok(Value::Decimal(unscaled)) => {
            assert_eq!(expected.as_deref().map(signed), Some(unscaled.to_string()), "{text}");
        }
        Ok(Value::Int(number)) => {
            assert_eq!(expected.as_deref().map(signed), Some(number.to_string()), "{text}");
        }
        Err(ValueError::Inexact) => assert_eq!(expected, None, "{text}"),
        Err(ValueError::OutOfRange) if precision > 0 => {
            let is_long = digits.trim_end_matches('0').len() > 38;
            let fits = expected.is_some_and(|digits| digits.len() <= precision);
            assert!(is_long || !fits, "{text}");
        }
        _ => {}
    }
}

/// All digits without leading zeros, and how many of them stand before the point. `None` if it is no number, or
/// the point is far away.
fn digits_and_point(text: &str) -> Option<(String, i64)> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent: i64 = exponent.parse().ok().filter(|e: &i64| e.unsigned_abs() < MAX_EXPONENT)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let is_number = !all.is_empty() && all.bytes().all(|byte| byte.is_ascii_digit());
    let digits = all.trim_start_matches('0');
    let leading = all.len() - digits.len();
    is_number.then(|| (digits.to_owned(), whole.len() as i64 - leading as i64 + exponent))
}

/// The digits of the number times ten to the `scale`; `None` if that is no whole number.
fn at_scale(digits: &str, point: i64, scale: i64) -> Option<String> {
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let length = usize::try_from(point + scale).ok()?;
    let zeros = length.checked_sub(significant.len())?;
    Some(format!("{significant}{}", "0".repeat(zeros)))
}
