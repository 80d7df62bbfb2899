//! Numbers in any of the forms that Debezium gives them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::decimal::Exact;
use super::encoding::{Encoding, Semantic};
use super::error::ValueError;
use super::json::Json;

/// The type of a DECIMAL column.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecimalType {
    pub(super) precision: u8,
    pub(super) scale: i8,
}

impl DecimalType {
    fn holds(self, number: Exact) -> bool {
        number.at_precision(self.precision, self.scale).is_ok()
    }

    /// Of a text that is a number as well as base64, the reading that the column can hold.
    ///
    /// # Errors
    /// [`ValueError::AmbiguousDecimal`] if it holds both, or neither.
    fn decide(self, digits: Exact, base64: Exact) -> Result<Exact, ValueError> {
        match (self.holds(digits), self.holds(base64)) {
            (true, false) => Ok(digits),
            (false, true) => Ok(base64),
            (true, true) | (false, false) => Err(ValueError::AmbiguousDecimal),
        }
    }
}

/// A number in any of its forms: JSON number, decimal text, base64, `VariableScaleDecimal`.
///
/// Text that nobody told about is base64 only in a DECIMAL column, at its scale. If it is a number as well,
/// such as `1234`, the column must be able to hold only one of the two.
pub(super) fn exact(
    json: &Json<'_>,
    encoding: Encoding,
    declared: Option<DecimalType>,
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
        (Semantic::Decimal { scale }, parsed) => match (parsed, unscaled(text, scale), declared) {
            (Ok(digits), Ok(base64), Some(declared)) => declared.decide(digits, base64),
            (_, Ok(_), _) => Err(ValueError::AmbiguousDecimal),
            (parsed, Err(_), _) => parsed,
        },
        (Semantic::Unknown | Semantic::Instant(_), parsed) => untold(text, parsed, declared),
        // A plain NUMBER, which is never base64 alone.
        (Semantic::VariableScale, parsed) => parsed,
        (Semantic::Base64 | Semantic::Base64Url | Semantic::Hex, _) => {
            Err(ValueError::Not { expected: "a number" })
        }
        (Semantic::Text, parsed) => parsed,
    }
}

fn untold(
    text: &str,
    parsed: Result<Exact, ValueError>,
    declared: Option<DecimalType>,
) -> Result<Exact, ValueError> {
    let Some(declared) = declared else {
        let is_base64 = !text.is_empty() && STANDARD.decode(text).is_ok();
        return match parsed {
            Err(ValueError::Not { .. }) if is_base64 => Err(ValueError::UntoldBase64),
            parsed => parsed,
        };
    };
    match (parsed, unscaled(text, declared.scale.into())) {
        (Ok(digits), Ok(base64)) => declared.decide(digits, base64),
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
