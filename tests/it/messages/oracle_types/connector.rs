//! What the connector makes of a value of Oracle, in each of its modes: written after its documentation and its own
//! tests of data types, so that our decoder is not asked about its own idea of the format.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};

/// `decimal.handling.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decimals {
    Precise,
    Double,
    Text,
    /// The same, of versions in which NUMBER(p, 0) is a text too.
    TextOfIntegers,
}

/// `time.precision.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    Adaptive,
    AdaptiveTimeMicroseconds,
    Connect,
    IsoString,
    Microseconds,
    Nanoseconds,
    Structured,
}

/// `interval.handling.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intervals {
    Numeric,
    Text,
}

/// `binary.handling.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binaries {
    Bytes,
    Base64,
    Base64UrlSafe,
    Hex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) decimals: Decimals,
    pub(super) times: Times,
    pub(super) intervals: Intervals,
    pub(super) binaries: Binaries,
}

pub(super) const DECIMALS: [Decimals; 4] =
    [Decimals::Precise, Decimals::Double, Decimals::Text, Decimals::TextOfIntegers];
pub(super) const TIMES: [Times; 7] = [
    Times::Adaptive,
    Times::AdaptiveTimeMicroseconds,
    Times::Connect,
    Times::IsoString,
    Times::Microseconds,
    Times::Nanoseconds,
    Times::Structured,
];
pub(super) const INTERVALS: [Intervals; 2] = [Intervals::Numeric, Intervals::Text];
pub(super) const BINARIES: [Binaries; 4] =
    [Binaries::Bytes, Binaries::Base64, Binaries::Base64UrlSafe, Binaries::Hex];

/// A value as Oracle has it.
#[derive(Debug, Clone)]
pub(super) enum Oracle {
    Null,
    /// NUMBER(precision, scale): the digits without the point.
    Number {
        precision: i32,
        scale: i32,
        unscaled: i128,
    },
    /// NUMBER, FLOAT, REAL, DOUBLE PRECISION.
    AnyNumber {
        scale: i32,
        unscaled: i128,
    },
    /// BINARY_FLOAT, BINARY_DOUBLE: their shortest text.
    Binary {
        json_type: &'static str,
        text: &'static str,
    },
    /// Everything that is a text, with the name of its schema.
    Text {
        name: &'static str,
        text: String,
    },
    /// RAW, BLOB
    Bytes(Vec<u8>),
    Date(DateTime<Utc>),
    /// TIMESTAMP(precision)
    Timestamp {
        precision: u32,
        at: DateTime<Utc>,
    },
    /// TIMESTAMP WITH (LOCAL) TIME ZONE: the time there and its offset.
    Zoned {
        at: DateTime<Utc>,
        offset: i32,
    },
    YearToMonth {
        months: i64,
    },
    DayToSecond {
        micros: i64,
    },
}

/// One field: its value as JSON, and its schema without the name.
pub(super) type Field = (String, String);

impl Oracle {
    pub(super) fn field(&self, modes: Modes) -> Field {
        match self {
            Self::Null => ("null".to_owned(), simple("string")),
            Self::Number { precision, scale, unscaled } => {
                number(*precision, *scale, *unscaled, modes.decimals)
            }
            Self::AnyNumber { scale, unscaled } => any_number(*scale, *unscaled, modes.decimals),
            Self::Binary { json_type, text } => ((*text).to_owned(), simple(json_type)),
            Self::Text { name: "", text } => (quoted(text), simple("string")),
            Self::Text { name, text } => (quoted(text), typed("string", name)),
            Self::Bytes(bytes) => binary(bytes, modes.binaries),
            Self::Date(at) => time(*at, None, modes.times),
            Self::Timestamp { precision, at } => time(*at, Some(*precision), modes.times),
            Self::Zoned { at, offset } => zoned(*at, *offset, modes.times),
            Self::YearToMonth { months } => {
                let text = format!("P{}Y{}M0DT0H0M0S", months / 12, months % 12);
                let parts = [months / 12, months % 12, 0, 0, 0, 0, 0];
                // A month is 365.25 / 12 days.
                interval(months * 2_629_800_000_000, &text, parts, modes)
            }
            Self::DayToSecond { micros } => {
                let seconds = micros / 1_000_000;
                let (days, hours, minutes) =
                    (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
                let parts = [0, 0, days, hours, minutes, seconds % 60, micros % 1_000_000 * 1000];
                interval(*micros, &day_to_second(*micros), parts, modes)
            }
        }
    }
}

fn typed(json_type: &str, name: &str) -> String {
    format!(r#""type":"{json_type}","name":"{name}","version":1,"optional":true"#)
}

fn simple(json_type: &str) -> String {
    format!(r#""type":"{json_type}","optional":true"#)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Base64 of Java's `BigInteger.toByteArray`: no more bytes than the sign needs.
fn unscaled_base64(value: i128) -> String {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let is_redundant = |pair: &[u8]| pair[0] == sign && (pair[1] ^ sign) & 0x80 == 0;
    let skip = bytes.windows(2).take_while(|pair| is_redundant(pair)).count();
    STANDARD.encode(&bytes[skip..])
}

/// `BigDecimal.toPlainString`
pub(super) fn plain_text(unscaled: i128, scale: i32) -> String {
    let (sign, digits) = (if unscaled < 0 { "-" } else { "" }, unscaled.unsigned_abs().to_string());
    if scale <= 0 {
        let zeros = if unscaled == 0 { 0 } else { scale.unsigned_abs() as usize };
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    }
    let places = scale as usize;
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    format!("{sign}{whole}.{fraction}")
}

fn double(unscaled: i128, scale: i32) -> Field {
    let value: f64 = format!("{unscaled}e{}", -scale).parse().expect("a number");
    (format!("{value:?}"), simple("float64"))
}

fn number(precision: i32, scale: i32, unscaled: i128, mode: Decimals) -> Field {
    let width = precision - scale;
    let is_text = mode == Decimals::TextOfIntegers && scale == 0;
    if scale <= 0 && width < 19 && !is_text {
        let json_type = match width {
            ..3 => "int8",
            3..5 => "int16",
            5..10 => "int32",
            _ => "int64",
        };
        return (plain_text(unscaled, scale), simple(json_type));
    }
    match mode {
        Decimals::Precise => {
            let schema = typed("bytes", "org.apache.kafka.connect.data.Decimal");
            let parameters = format!(
                r#""parameters":{{"scale":"{scale}","connect.decimal.precision":"{precision}"}}"#
            );
            (quoted(&unscaled_base64(unscaled)), format!("{schema},{parameters}"))
        }
        Decimals::Double => double(unscaled, scale),
        Decimals::Text | Decimals::TextOfIntegers => {
            (quoted(&plain_text(unscaled, scale)), simple("string"))
        }
    }
}

fn any_number(scale: i32, unscaled: i128, mode: Decimals) -> Field {
    match mode {
        Decimals::Precise => {
            let value = unscaled_base64(unscaled);
            let schema = typed("struct", "io.debezium.data.VariableScaleDecimal");
            let fields =
                r#""fields":[{"field":"scale","type":"int32"},{"field":"value","type":"bytes"}]"#;
            (format!(r#"{{"scale":{scale},"value":"{value}"}}"#), format!("{schema},{fields}"))
        }
        Decimals::Double => double(unscaled, scale),
        Decimals::Text | Decimals::TextOfIntegers => {
            (quoted(&plain_text(unscaled, scale)), simple("string"))
        }
    }
}

fn binary(bytes: &[u8], mode: Binaries) -> Field {
    let hex = |mut text: String, byte: &u8| {
        write!(text, "{byte:02x}").expect("memory takes any text");
        text
    };
    match mode {
        Binaries::Bytes => (quoted(&STANDARD.encode(bytes)), simple("bytes")),
        Binaries::Base64 => (quoted(&STANDARD.encode(bytes)), simple("string")),
        Binaries::Base64UrlSafe => (quoted(&URL_SAFE.encode(bytes)), simple("string")),
        Binaries::Hex => (quoted(&bytes.iter().fold(String::new(), hex)), simple("string")),
    }
}

/// `None` is the precision of a DATE.
fn time(at: DateTime<Utc>, precision: Option<u32>, mode: Times) -> Field {
    let int64 = |count: i64, name: &str| (count.to_string(), typed("int64", name));
    let millis = || int64(at.timestamp_millis(), "io.debezium.time.Timestamp");
    let micros = || int64(at.timestamp_micros(), "io.debezium.time.MicroTimestamp");
    let nanos = || {
        let count = at.timestamp_nanos_opt().expect("of 1677 to 2262");
        int64(count, "io.debezium.time.NanoTimestamp")
    };
    match (mode, precision) {
        (Times::Adaptive | Times::AdaptiveTimeMicroseconds, None | Some(..=3)) => millis(),
        (Times::Adaptive | Times::AdaptiveTimeMicroseconds, Some(..=6)) => micros(),
        (Times::Adaptive | Times::AdaptiveTimeMicroseconds, Some(_)) | (Times::Nanoseconds, _) => {
            nanos()
        }
        (Times::Microseconds, _) => micros(),
        (Times::Connect, None) => {
            let days = at.timestamp().div_euclid(86_400);
            (days.to_string(), typed("int32", "org.apache.kafka.connect.data.Date"))
        }
        (Times::Connect, Some(_)) => {
            int64(at.timestamp_millis(), "org.apache.kafka.connect.data.Timestamp")
        }
        (Times::IsoString, _) => {
            let text = at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            (quoted(&text), typed("string", "io.debezium.time.IsoTimestamp"))
        }
        (Times::Structured, _) => {
            let precision = precision.map_or("null".to_owned(), |precision| precision.to_string());
            let rest = format!(r#""specialValue":null,"precision":{precision}"#);
            (structured(at, &rest), typed("struct", "io.debezium.time.StructuredTimestamp"))
        }
    }
}

/// `at` as a calendar shows it, whatever its zone.
fn structured(at: DateTime<Utc>, rest: &str) -> String {
    format!(
        r#"{{"year":{},"month":{},"day":{},"hour":{},"minute":{},"second":{},"nanos":{},{rest}}}"#,
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.nanosecond()
    )
}

fn zoned(at: DateTime<Utc>, offset: i32, mode: Times) -> Field {
    let zone = chrono::FixedOffset::east_opt(offset).expect("an offset");
    let there = at.with_timezone(&zone);
    if mode == Times::Structured {
        let rest = format!(
            r#""offsetSeconds":{offset},"zoneId":"{zone}","specialValue":null,"precision":6"#
        );
        let shown = there.naive_local().and_utc();
        return (
            structured(shown, &rest),
            typed("struct", "io.debezium.time.StructuredZonedTimestamp"),
        );
    }
    let text = there.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    (quoted(&text), typed("string", "io.debezium.time.ZonedTimestamp"))
}

/// `parts` are years to nanoseconds.
fn interval(micros: i64, text: &str, parts: [i64; 7], modes: Modes) -> Field {
    if modes.times == Times::Structured {
        let [years, months, days, hours, minutes, seconds, nanos] = parts;
        let value = format!(
            r#"{{"years":{years},"months":{months},"days":{days},"hours":{hours},"minutes":{minutes},"seconds":{seconds},"nanos":{nanos}}}"#
        );
        return (value, typed("struct", "io.debezium.time.StructuredDuration"));
    }
    match modes.intervals {
        Intervals::Numeric => {
            (micros.to_string(), typed("int64", "io.debezium.time.MicroDuration"))
        }
        Intervals::Text => (quoted(text), typed("string", "io.debezium.time.Interval")),
    }
}

/// Each part has the sign.
fn day_to_second(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let sign = if micros < 0 { "-" } else { "" };
    let second = format!("{}.{:06}", (seconds % 60).abs(), fraction.abs());
    let second = second.trim_end_matches('0').trim_end_matches('.');
    format!("P0Y0M{}DT{}H{}M{sign}{second}S", hours / 24, hours % 24, minutes % 60)
}
