//! Types that the source itself has named.

use std::fmt;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime};

use super::json_number::write_number;

/// The most digits that a DECIMAL has here.
const DIGITS: u8 = 38;

/// A type that the source itself has named, in a schema section or in a schema-change message.
///
/// Its values are in `extra_fields` in the one form that [`Self::read`] takes: numbers with all their
/// digits, times as ISO text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SureType {
    Boolean,
    Bigint,
    Double,
    Decimal { scale: u8 },
    Timestamp,
    Date,
    Varchar,
}

/// A value in the type of its column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SureValue {
    Boolean(bool),
    /// Also days and microseconds since 1970.
    Int(i64),
    Double(f64),
    Decimal(i128),
    Text(String),
}

impl SureType {
    pub fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Bigint => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Decimal { scale } => DataType::Decimal128(DIGITS, scale as i8),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Date => DataType::Date32,
            Self::Varchar => DataType::Utf8,
        }
    }

    /// As PostgreSQL calls it.
    pub fn name(self) -> String {
        match self {
            Self::Boolean => "bool".to_owned(),
            Self::Bigint => "int8".to_owned(),
            Self::Double => "float8".to_owned(),
            Self::Decimal { scale } => format!("numeric({DIGITS},{scale})"),
            Self::Timestamp => "timestamp".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Varchar => "varchar".to_owned(),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let plain =
            [Self::Boolean, Self::Bigint, Self::Double, Self::Timestamp, Self::Date, Self::Varchar];
        let decimals = (0..=DIGITS).map(|scale| Self::Decimal { scale });
        plain.into_iter().chain(decimals).find(|known| known.name() == text)
    }

    /// The type of a DECIMAL with so many places, if there is one.
    pub fn decimal(scale: i64) -> Option<Self> {
        let scale = u8::try_from(scale).ok().filter(|scale| *scale <= DIGITS)?;
        Some(Self::Decimal { scale })
    }

    /// Whether a JSON value is one of the type; null is.
    pub fn holds(self, raw: &str) -> bool {
        raw == "null" || self.read(raw).is_some()
    }

    /// The type that holds the values of both, if one of the two does.
    pub fn or(self, other: Self) -> Option<Self> {
        match (self, other) {
            (one, two) if one == two => Some(one),
            // 19 digits before the point, and the places.
            (Self::Bigint, decimal @ Self::Decimal { scale: ..=19 })
            | (decimal @ Self::Decimal { scale: ..=19 }, Self::Bigint) => Some(decimal),
            _ => None,
        }
    }

    /// The value that a JSON text is; `None` for null and for what is not exactly one of the type.
    pub(super) fn read(self, raw: &str) -> Option<SureValue> {
        let text = || raw.strip_prefix('"')?.strip_suffix('"');
        let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        match self {
            Self::Boolean => raw.parse().ok().map(SureValue::Boolean),
            Self::Bigint => raw.parse().ok().map(SureValue::Int),
            Self::Double if is_number => {
                raw.parse().ok().filter(|value: &f64| value.is_finite()).map(SureValue::Double)
            }
            Self::Decimal { scale } if is_number => unscaled(raw, scale).map(SureValue::Decimal),
            Self::Timestamp => {
                let time = NaiveDateTime::parse_from_str(text()?, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
                Some(SureValue::Int(time.and_utc().timestamp_micros()))
            }
            Self::Date => {
                let date = NaiveDate::parse_from_str(text()?, "%Y-%m-%d").ok()?;
                let epoch = NaiveDate::default();
                Some(SureValue::Int(date.signed_duration_since(epoch).num_days()))
            }
            Self::Varchar => serde_json::from_str(raw).ok().map(SureValue::Text),
            Self::Double | Self::Decimal { .. } => None,
        }
    }
}

impl fmt::Display for SureType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A number at `scale`, if no digit is lost.
fn unscaled(raw: &str, scale: u8) -> Option<i128> {
    let mut digits = String::new();
    write_number(raw, &mut digits);
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let scale = usize::from(scale);
    if fraction.len() > scale {
        return None;
    }
    let value: i128 = format!("{whole}{fraction:0<scale$}").parse().ok()?;
    (value.unsigned_abs() < 10_u128.pow(DIGITS.into())).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_the_type_that_it_is_of() {
        let scaled = [0, 2, 38].map(|scale| SureType::Decimal { scale });
        let plain = [SureType::Boolean, SureType::Bigint, SureType::Double, SureType::Timestamp];
        for known in plain.into_iter().chain(scaled).chain([SureType::Date, SureType::Varchar]) {
            assert_eq!(SureType::parse(&known.name()), Some(known));
        }
        assert_eq!(SureType::parse("numeric(38,39)"), None);
        assert_eq!((SureType::decimal(-1), SureType::decimal(39)), (None, None));
    }

    #[test]
    fn a_value_is_exactly_one_of_its_type_or_none() {
        let money = SureType::Decimal { scale: 2 };
        for (known, raw, expected) in [
            (SureType::Boolean, "true", Some(SureValue::Boolean(true))),
            (SureType::Boolean, "1", None),
            (SureType::Bigint, "-9223372036854775808", Some(SureValue::Int(i64::MIN))),
            (SureType::Bigint, "9223372036854775808", None),
            (SureType::Bigint, "1.0", None),
            (SureType::Bigint, "\"1\"", None),
            (SureType::Double, "1.5e3", Some(SureValue::Double(1500.0))),
            (SureType::Double, "1e400", None),
            (money, "-12.5", Some(SureValue::Decimal(-1250))),
            (money, "1.500", Some(SureValue::Decimal(150))),
            (money, "1e3", Some(SureValue::Decimal(100_000))),
            (money, "0.001", None),
            (money, "1000000000000000000000000000000000000", None),
            (money, "\"BOI=\"", None),
            (SureType::Timestamp, "\"1970-01-01T00:00:01.5\"", Some(SureValue::Int(1_500_000))),
            (SureType::Timestamp, "1500", None),
            (SureType::Date, "\"1970-01-03\"", Some(SureValue::Int(2))),
            (SureType::Date, "\"1970-01-03T00:00:00\"", None),
            (SureType::Varchar, "\"a\\n\"", Some(SureValue::Text("a\n".to_owned()))),
            (SureType::Varchar, "{}", None),
            (SureType::Varchar, "null", None),
        ] {
            assert_eq!(known.read(raw), expected, "{known} {raw}");
        }
        assert!(money.holds("null") && !money.holds("{}"));
    }

    #[test]
    fn whole_numbers_widen_to_decimals_and_nothing_else_widens() {
        let money = SureType::Decimal { scale: 2 };
        assert_eq!(SureType::Bigint.or(money), Some(money));
        assert_eq!(money.or(SureType::Bigint), Some(money));
        assert_eq!(SureType::Bigint.or(SureType::Decimal { scale: 20 }), None);
        assert_eq!(money.or(SureType::Decimal { scale: 3 }), None);
        assert_eq!(SureType::Date.or(SureType::Timestamp), None);
        assert_eq!(SureType::Date.or(SureType::Date), Some(SureType::Date));
    }
}
