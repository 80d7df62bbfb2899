//! A column of each type of Oracle, what is in it, and what Postgres must show of it.

use chrono::{DateTime, TimeZone, Utc};

use super::connector::{Binaries, Decimals, Intervals, Modes, Oracle, Times};

pub(super) struct Column {
    pub(super) name: &'static str,
    /// Its type here, in the declaration and in Postgres.
    pub(super) sql: &'static str,
    pub(super) ordinary: Case,
    /// The ends of what the types hold.
    pub(super) extreme: Case,
}

/// A value, and how Postgres shows it.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) value: Oracle,
    pub(super) shown: Shown,
}

#[derive(Clone)]
pub(super) enum Shown {
    Always(&'static str),
    /// The second in `time.precision.mode=connect`, which loses digits in the connector.
    Connect(&'static str, &'static str),
    /// `interval.handling.mode` numeric, and text; and in `time.precision.mode=structured`, which knows no other.
    Interval(&'static str, &'static str, &'static str),
}

impl Shown {
    pub(super) fn text(&self, modes: Modes) -> &'static str {
        match self {
            Self::Connect(_, text) if modes.times == Times::Connect => text,
            Self::Interval(_, _, text) if modes.times == Times::Structured => text,
            Self::Interval(_, text, _) if modes.intervals == Intervals::Text => text,
            Self::Always(text) | Self::Connect(text, _) | Self::Interval(text, ..) => text,
        }
    }
}

/// Doubles don't hold what the extreme numbers are, nor nanoseconds the extreme times: there is nothing to decode.
pub(super) fn holds_extremes(modes: Modes) -> bool {
    modes.decimals != Decimals::Double && modes.times != Times::Nanoseconds
}

impl Column {
    /// Whether its values are numbers only by the schema section: base64 of another scale than the declared one, and
    /// a number with its scale in a column that is declared as text.
    pub(super) fn needs_schema_section(&self, modes: Modes) -> bool {
        let is_other = match self.ordinary.value {
            Oracle::Number { precision, .. } => precision == 36,
            Oracle::AnyNumber { .. } => self.sql == "TEXT",
            _ => false,
        };
        modes.decimals == Decimals::Precise && is_other
    }

    /// Base64 in a column that is declared as an integer, which nobody may guess.
    pub(super) fn needs_telling(&self, modes: Modes) -> bool {
        modes.decimals == Decimals::Precise && self.name == "val_smallint"
    }

    /// What the option `encodings` has to say about it.
    pub(super) fn encoding(&self, modes: Modes) -> Option<&'static str> {
        let is_number = self.sql.starts_with("DECIMAL") || self.sql.ends_with("INT");
        match (&self.ordinary.value, modes.decimals) {
            (Oracle::Number { precision, scale, .. }, Decimals::Precise) => {
                (*scale > 0 || precision - scale >= 19).then_some("base64")
            }
            (
                Oracle::Number { .. } | Oracle::AnyNumber { .. },
                Decimals::Text | Decimals::TextOfIntegers,
            ) => is_number.then_some("text"),
            (Oracle::Bytes(_), _) => Some(match modes.binaries {
                Binaries::Bytes | Binaries::Base64 => "base64",
                Binaries::Base64UrlSafe => "base64url",
                Binaries::Hex => "hex",
            }),
            (Oracle::Date(_), _) => unit(None, modes.times),
            (Oracle::Timestamp { precision, .. }, _) => unit(Some(*precision), modes.times),
            _ => None,
        }
    }
}

fn unit(precision: Option<u32>, times: Times) -> Option<&'static str> {
    match (times, precision) {
        (Times::IsoString | Times::Structured, _) => None,
        (Times::Connect, None) => Some("days"),
        (Times::Microseconds, _) => Some("us"),
        (Times::Nanoseconds, _) => Some("ns"),
        (Times::Connect, Some(_)) | (_, None | Some(..=3)) => Some("ms"),
        (_, Some(..=6)) => Some("us"),
        (_, Some(_)) => Some("ns"),
    }
}

fn always(value: Oracle, shown: &'static str) -> Case {
    Case { value, shown: Shown::Always(shown) }
}

/// NUMBER(precision, scale)
fn number(precision: i32, scale: i32, unscaled: i128, shown: &'static str) -> Case {
    always(Oracle::Number { precision, scale, unscaled }, shown)
}

fn any(unscaled: i128, scale: i32, shown: &'static str) -> Case {
    always(Oracle::AnyNumber { scale, unscaled }, shown)
}

fn binary(json_type: &'static str, text: &'static str, shown: &'static str) -> Case {
    always(Oracle::Binary { json_type, text }, shown)
}

fn text(name: &'static str, text: &'static str) -> Case {
    always(Oracle::Text { name, text: text.to_owned() }, text)
}

fn bytes(bytes: &[u8], shown: &'static str) -> Case {
    always(Oracle::Bytes(bytes.to_vec()), shown)
}

fn utc(
    year: i32,
    (month, day): (u32, u32),
    (hour, minute, second): (u32, u32, u32),
    nanos: i64,
) -> DateTime<Utc> {
    let time = Utc.with_ymd_and_hms(year, month, day, hour, minute, second).single();
    time.expect("a time") + chrono::TimeDelta::nanoseconds(nanos)
}

fn date(at: DateTime<Utc>, shown: &'static str, connect: &'static str) -> Case {
    Case { value: Oracle::Date(at), shown: Shown::Connect(shown, connect) }
}

fn stamp(precision: u32, at: DateTime<Utc>, shown: &'static str, connect: &'static str) -> Case {
    Case { value: Oracle::Timestamp { precision, at }, shown: Shown::Connect(shown, connect) }
}

fn zoned(at: DateTime<Utc>, hours: i32, shown: &'static str) -> Case {
    always(Oracle::Zoned { at, offset: hours * 3600 }, shown)
}

fn interval(value: Oracle, [micros, text, structured]: [&'static str; 3]) -> Case {
    Case { value, shown: Shown::Interval(micros, text, structured) }
}

const NINES: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

pub(super) fn columns() -> Vec<Column> {
    let all = [
        strings(),
        floats(),
        integers(),
        small_integers(),
        times(),
        zones_and_intervals(),
        large_objects(),
    ];
    all.into_iter().flatten().collect()
}

fn column(name: &'static str, sql: &'static str, ordinary: Case, extreme: Case) -> Column {
    Column { name, sql, ordinary, extreme }
}

fn strings() -> Vec<Column> {
    let ends = || text("", "\"\\\u{1}\n\u{1f600}\u{10ffff}'");
    vec![
        column("val_varchar", "TEXT", text("", "v\u{10d}2"), text("", "")),
        column("val_varchar2", "TEXT", text("", "v\u{10d}2"), ends()),
        column("val_nvarchar2", "TEXT", text("", "nv\u{10d}2"), ends()),
        column("val_char", "TEXT", text("", "c  "), text("", "   ")),
        column("val_nchar", "TEXT", text("", "n\u{10d} "), text("", "null")),
    ]
}

fn floats() -> Vec<Column> {
    let tiny = "0.00000000000000000000000000000000000001";
    vec![
        column(
            "val_bf",
            "DOUBLE PRECISION",
            binary("float32", "1.1", "1.1"),
            binary("float32", "3.4028235E38", "3.4028235e+38"),
        ),
        column(
            "val_bd",
            "DOUBLE PRECISION",
            binary("float64", "2.22", "2.22"),
            binary("float64", "-4.9E-324", "-5e-324"),
        ),
        column(
            "val_f",
            "DECIMAL(38,10)",
            any(333, 2, "3.3300000000"),
            any(-1, 10, "-0.0000000001"),
        ),
        column("val_f_10", "DOUBLE PRECISION", any(8888, 3, "8.888"), any(1, -100, "1e+100")),
        column(
            "val_num",
            "DECIMAL(10,6)",
            number(10, 6, 4_444_400, "4.444400"),
            number(10, 6, -9_999_999_999, "-9999.999999"),
        ),
        column(
            "val_dp",
            "TEXT",
            any(5555, 3, "5.555"),
            any(NINES, 37, "9.9999999999999999999999999999999999999"),
        ),
        column(
            "val_r",
            "DECIMAL(20,4)",
            any(666, 2, "6.6600"),
            any(5, -15, "5000000000000000.0000"),
        ),
        column(
            "val_decimal",
            "DECIMAL(10,6)",
            number(10, 6, 1_234_567_891, "1234.567891"),
            number(10, 6, 0, "0.000000"),
        ),
        column(
            "val_numeric",
            "DECIMAL(38,38)",
            number(38, 38, 5 * 10_i128.pow(37), HALF),
            number(38, 38, 1, tiny),
        ),
        column(
            "val_num_vs",
            "DECIMAL(38,10)",
            any(77_323, 3, "77.3230000000"),
            any(-NINES, 10, MOST_AT_10),
        ),
    ]
}

const HALF: &str = "0.50000000000000000000000000000000000000";
const MOST_AT_10: &str = "-9999999999999999999999999999.9999999999";

fn integers() -> Vec<Column> {
    let most = "99999999999999999999999999999999999999";
    let least = "-99999999999999999999999999999999999999";
    vec![
        column("val_int", "DECIMAL(38,0)", number(38, 0, 1, "1"), number(38, 0, NINES, most)),
        column(
            "val_integer",
            "DECIMAL(38,0)",
            number(38, 0, 22, "22"),
            number(38, 0, -NINES, least),
        ),
        column(
            "val_smallint",
            "BIGINT",
            number(38, 0, 333, "333"),
            number(38, 0, i64::MAX.into(), "9223372036854775807"),
        ),
        column(
            "val_number_38",
            "DECIMAL(38,0)",
            number(38, 0, -4444, "-4444"),
            number(38, 0, -1, "-1"),
        ),
    ]
}

fn small_integers() -> Vec<Column> {
    let flag = |text, shown| binary("boolean", text, shown);
    vec![
        // NUMBER(1) behind `NumberOneToBooleanConverter`
        column("val_boolean", "BOOLEAN", flag("true", "t"), flag("false", "f")),
        column("val_number_2", "SMALLINT", number(2, 0, 99, "99"), number(2, 0, -99, "-99")),
        column(
            "val_number_4",
            "SMALLINT",
            number(4, 0, 9999, "9999"),
            number(4, 0, -9999, "-9999"),
        ),
        column(
            "val_number_9",
            "INTEGER",
            number(9, 0, 999_999_999, "999999999"),
            number(9, 0, -999_999_999, "-999999999"),
        ),
        column(
            "val_number_18",
            "BIGINT",
            number(18, 0, 999_999_999_999_999_999, "999999999999999999"),
            number(18, 0, -999_999_999_999_999_999, "-999999999999999999"),
        ),
        column("val_number_1", "BOOLEAN", number(1, 0, 1, "t"), number(1, 0, 0, "f")),
        column(
            "val_number_2_negative_scale",
            "SMALLINT",
            number(1, -1, 9, "90"),
            number(1, -1, -9, "-90"),
        ),
        column(
            "val_number_4_negative_scale",
            "DECIMAL(4,0)",
            number(2, -2, 99, "9900"),
            number(2, -2, -99, "-9900"),
        ),
        column(
            "val_number_18_negative_scale",
            "BIGINT",
            number(16, -2, 12, "1200"),
            number(16, -2, -(10_i128.pow(15)), "-100000000000000000"),
        ),
        column(
            "val_number_36_negative_scale",
            "DECIMAL(38,0)",
            number(36, -2, -12_345, "-1234500"),
            number(36, -2, NINES / 100, HUNDREDS),
        ),
        column(
            "val_decimal_10",
            "DECIMAL(10,0)",
            number(10, 0, -9_999_999_999, "-9999999999"),
            number(10, 0, 0, "0"),
        ),
    ]
}

const HUNDREDS: &str = "99999999999999999999999999999999999900";

fn at(nanos: i64) -> DateTime<Utc> {
    utc(2018, (3, 27), (12, 34, 56), nanos)
}

fn first() -> DateTime<Utc> {
    utc(-4711, (1, 1), (0, 0, 0), 0)
}

fn last(nanos: i64) -> DateTime<Utc> {
    utc(9999, (12, 31), (23, 59, 59), nanos)
}

const END: &str = "9999-12-31 23:59:59.999999";

fn times() -> Vec<Column> {
    vec![
        column(
            "val_date",
            "TIMESTAMP",
            date(at(0), "2018-03-27 12:34:56", "2018-03-27 00:00:00"),
            date(first(), "4712-01-01 00:00:00 BC", "4712-01-01 00:00:00 BC"),
        ),
        column(
            "val_day",
            "DATE",
            date(utc(2018, (3, 27), (0, 0, 0), 0), "2018-03-27", "2018-03-27"),
            date(first(), "4712-01-01 BC", "4712-01-01 BC"),
        ),
        column(
            "val_ts",
            "TIMESTAMP",
            stamp(6, at(7_890_000), "2018-03-27 12:34:56.00789", "2018-03-27 12:34:56.007"),
            stamp(6, last(999_999_000), END, "9999-12-31 23:59:59.999"),
        ),
        column(
            "val_ts_precision2",
            "TIMESTAMP",
            stamp(2, at(130_000_000), "2018-03-27 12:34:56.13", "2018-03-27 12:34:56.13"),
            stamp(2, last(990_000_000), "9999-12-31 23:59:59.99", "9999-12-31 23:59:59.99"),
        ),
        column(
            "val_ts_precision4",
            "TIMESTAMP",
            stamp(4, at(125_500_000), "2018-03-27 12:34:56.1255", "2018-03-27 12:34:56.125"),
            stamp(
                4,
                utc(1969, (12, 31), (23, 59, 59), 999_900_000),
                "1969-12-31 23:59:59.9999",
                "1969-12-31 23:59:59.999",
            ),
        ),
        column(
            "val_ts_precision9",
            "TIMESTAMP",
            stamp(9, at(123_456_789), "2018-03-27 12:34:56.123456", "2018-03-27 12:34:56.123"),
            stamp(
                9,
                utc(1677, (9, 22), (0, 0, 0), 1999),
                "1677-09-22 00:00:00.000001",
                "1677-09-22 00:00:00",
            ),
        ),
    ]
}

fn zones_and_intervals() -> Vec<Column> {
    vec![
        column(
            "val_tstz",
            "TIMESTAMPTZ",
            zoned(at(7_890_000), -11, "2018-03-27 12:34:56.00789"),
            zoned(last(999_999_000), 14, END),
        ),
        column(
            "val_tsltz",
            "TIMESTAMPTZ",
            zoned(at(7_890_000), 0, "2018-03-27 12:34:56.00789"),
            zoned(first(), 0, "4712-01-01 00:00:00 BC"),
        ),
        column(
            "val_int_ytm",
            "TEXT",
            interval(
                Oracle::YearToMonth { months: -42 },
                [
                    "-110451600000000",
                    "P-3Y-6M0DT0H0M0S",
                    r#"{"years":-3,"months":-6,"days":0,"hours":0,"minutes":0,"seconds":0,"nanos":0}"#,
                ],
            ),
            interval(
                Oracle::YearToMonth { months: 0 },
                [
                    "0",
                    "P0Y0M0DT0H0M0S",
                    r#"{"years":0,"months":0,"days":0,"hours":0,"minutes":0,"seconds":0,"nanos":0}"#,
                ],
            ),
        ),
        column(
            "val_int_dts",
            "TEXT",
            interval(
                Oracle::DayToSecond { micros: -93_784_560_000 },
                [
                    "-93784560000",
                    "P0Y0M-1DT-2H-3M-4.56S",
                    r#"{"years":0,"months":0,"days":-1,"hours":-2,"minutes":-3,"seconds":-4,"nanos":-560000000}"#,
                ],
            ),
            interval(
                Oracle::DayToSecond { micros: 86_399_999_999_999_999 },
                [
                    "86399999999999999",
                    "P0Y0M999999DT23H59M59.999999S",
                    r#"{"years":0,"months":0,"days":999999,"hours":23,"minutes":59,"seconds":59,"nanos":999999000}"#,
                ],
            ),
        ),
    ]
}

fn large_objects() -> Vec<Column> {
    let json = "io.debezium.data.Json";
    let xml = "io.debezium.data.Xml";
    vec![
        column("val_clob", "TEXT", text("", "Gr\u{fc}\u{df}e \u{1f600}"), text("", "a\r\n\tb")),
        column("val_nclob", "TEXT", text("", "\u{4e16}\u{754c}"), text("", " ")),
        // Of such lengths that no text is both hexadecimal and base64.
        column(
            "val_blob",
            "BYTEA",
            bytes(&[0xde, 0xad, 0xbe, 0xef, 0xff], "deadbeefff"),
            bytes(&[0], "00"),
        ),
        column("val_raw", "BYTEA", bytes(&[0xfb, 0xff, 0xbe], "fbffbe"), bytes(&[], "")),
        column("val_xml", "TEXT", text(xml, "<a b=\"c\">&lt;</a>"), text(xml, "<a/>")),
        column("val_json", "TEXT", text(json, r#"{"a": [1.10]}"#), text(json, "1e400")),
        column("val_rowid", "TEXT", text("", "AAAShYAAFAAAAMdAAA"), text("", "AAAShYAAFAAAAMd+/A")),
    ]
}
