//! Every mode of the connector, by declaration and by schema section.

use chrono::{DateTime, Datelike, FixedOffset, Timelike, Utc};

use super::*;
use crate::model::WrittenAs;

#[test]
fn bytes_are_read_in_every_mode_and_never_guessed() {
    let bytes = Ok(Value::Bytes(vec![0xfb, 0xff, 0xbe]));
    for (raw, semantic) in [
        ("\"+/++\"", Semantic::Unknown),
        ("\"+/++\"", Semantic::Base64),
        ("\"-_--\"", Semantic::Unknown),
        ("\"-_--\"", Semantic::Base64Url),
        ("\"fbffbe\"", Semantic::Unknown),
        ("\"FBFFBE\"", Semantic::Text),
        ("\"fbffbe\"", Semantic::Hex),
    ] {
        assert_eq!(convert(raw, ColumnKind::Binary, known(semantic)), bytes, "{raw} {semantic:?}");
    }
    // Four hexadecimal digits are base64 of three other bytes.
    assert_eq!(plain("\"abcd\"", ColumnKind::Binary), Err(ValueError::AmbiguousBinary));
    let hex = known(Semantic::declared(WrittenAs::Hex, ColumnKind::Binary));
    assert_eq!(convert("\"abcd\"", ColumnKind::Binary, hex), Ok(Value::Bytes(vec![0xab, 0xcd])));
    let base64 = known(Semantic::declared(WrittenAs::Base64, ColumnKind::Binary));
    assert_eq!(
        convert("\"abcd\"", ColumnKind::Binary, base64),
        Ok(Value::Bytes(vec![0x69, 0xb7, 0x1d]))
    );
    assert_eq!(plain("\"\"", ColumnKind::Binary), Ok(Value::Bytes(vec![])));
    for raw in ["\"abc\"", "\"*\"", "1", "[1]"] {
        assert_eq!(plain(raw, ColumnKind::Binary), not("base64 or hexadecimal"), "{raw}");
    }
}

#[test]
fn a_declared_encoding_settles_what_the_form_leaves_open() {
    let written = |written, kind| known(Semantic::declared(written, kind));
    let base64 = written(WrittenAs::Base64, MONEY);
    let unscaled = Ok(Value::Decimal(0xd7_6df8 - (1 << 24)));
    assert_eq!(convert("\"1234\"", MONEY, base64), unscaled);
    let text = written(WrittenAs::Text, MONEY);
    assert_eq!(convert("\"1234\"", MONEY, text), Ok(Value::Decimal(123_400)));
    assert_eq!(convert("\"AMg=\"", MONEY, text), not("a number"));
    let whole = written(WrittenAs::Base64, ColumnKind::Int64);
    assert_eq!(convert("\"AfQ=\"", ColumnKind::Int64, whole), Ok(Value::Int(500)));
    for (unit, micros) in [
        (WrittenAs::Days, 86_400_000_000),
        (WrittenAs::Millis, 1000),
        (WrittenAs::Micros, 1),
        (WrittenAs::Nanos, 0),
    ] {
        let encoding = written(unit, ColumnKind::Timestamp);
        assert_eq!(
            convert("1", ColumnKind::Timestamp, encoding),
            Ok(Value::Int(micros)),
            "{unit:?}"
        );
    }
}

#[test]
fn a_number_in_a_text_column_is_its_digits() {
    let decimal = |scale| known(Semantic::Decimal { scale });
    let digits = |raw, encoding| match convert(raw, ColumnKind::Text, encoding) {
        Ok(Value::Text(text)) => text.into_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!(digits("\"AMg=\"", decimal(2)), "2.00");
    assert_eq!(digits("\"/w==\"", decimal(3)), "-0.001");
    assert_eq!(digits("\"AMg=\"", decimal(-2)), "20000");
    assert_eq!(digits("\"AA==\"", decimal(-2)), "0");
    let variable = known(Semantic::VariableScale);
    assert_eq!(
        digits(r#"{"scale":40,"value":"BQ=="}"#, variable),
        format!("0.{}5", "0".repeat(39))
    );
    assert_eq!(digits(r#"{"scale":-30,"value":"BQ=="}"#, variable), format!("5{}", "0".repeat(30)));
    // Nobody says that this is a number.
    assert_eq!(digits(r#"{"scale":0,"value":"BQ=="}"#, UNKNOWN), r#"{"scale":0,"value":"BQ=="}"#);
    assert!(convert(r#"{"scale":2000000,"value":"BQ=="}"#, ColumnKind::Text, variable).is_err());
}

#[test]
fn years_before_christ_and_after_9999_and_structs() {
    let at = |raw: &str| plain(raw, ColumnKind::Timestamp).map(|value| value.int());
    let instant = |year, month, day| {
        let date =
            chrono::NaiveDate::from_ymd_opt(year, month, day).and_then(|d| d.and_hms_opt(0, 0, 0));
        Ok(date.map(|date| date.and_utc().timestamp_micros()))
    };
    assert_eq!(at("\"-4711-01-01T00:00:00Z\""), instant(-4711, 1, 1));
    assert_eq!(at("\"0000-12-31\""), instant(0, 12, 31));
    assert_eq!(at("\"9999-12-31Z\""), instant(9999, 12, 31));
    assert_eq!(at("\"+10000-01-01T00:00:00Z\""), instant(10_000, 1, 1));
    assert_eq!(at(r#"{"year":-4711,"month":1,"day":1}"#), instant(-4711, 1, 1));
    assert_eq!(
        plain(r#"{"year":2024,"month":1,"day":20}"#, ColumnKind::Date),
        Ok(Value::Int(19_742))
    );
    let part = r#"{"year":2024,"month":1,"day":20,"hour":0,"minute":0,"second":1,"nanos":5999,"precision":9}"#;
    assert_eq!(at(part), Ok(Some(1_705_708_801_000_005)));
    let zoned = r#"{"year":2024,"month":1,"day":20,"hour":2,"offset":7200}"#;
    assert_eq!(at(zoned), instant(2024, 1, 20));
    // As the connector writes it, with all fields.
    let whole = |time: &str, zone: &str| {
        at(&format!(
            r#"{{"year":2018,"month":3,"day":27,"hour":1,"minute":34,"second":56,{time},"offsetSeconds":-39600,"zoneId":{zone},"specialValue":null,"precision":9}}"#
        ))
    };
    let expected = Ok(Some(1_522_154_096_007_890));
    assert_eq!(whole(r#""nanos":7890999"#, "null"), expected);
    assert_eq!(whole(r#""picoseconds":7890999999"#, "\"Pacific/Niue\""), expected);
    assert_eq!(whole(r#""nanos":1,"picoseconds":1"#, "null"), not("a date or time"));
    let infinite = r#"{"year":null,"month":null,"day":null,"specialValue":"POSITIVE_INFINITY"}"#;
    assert_eq!(at(infinite), Err(ValueError::OutOfRange));
    for raw in [
        r#"{"year":2024,"month":2,"day":30}"#,
        r#"{"year":2024,"month":1}"#,
        r#"{"year":1,"month":1,"day":1,"era":0}"#,
        r#"{"year":1,"month":1,"day":1,"zoneId":"Europe/Paris"}"#,
        r#"{"year":1,"month":1,"day":1,"offset":64801}"#,
        r#"{"year":1,"month":1,"day":1,"picoseconds":1000000000000}"#,
    ] {
        assert_eq!(at(raw), not("a date or time"), "{raw}");
    }
    // Postgres begins in 4714 BC.
    assert_eq!(at("\"-4714-01-01\""), Err(ValueError::OutOfRange));
    for raw in ["\"-4714-01-01\"", r#"{"year":-4990,"month":1,"day":1,"nanos":5}"#] {
        assert_eq!(plain(raw, ColumnKind::Date), Err(ValueError::OutOfRange), "{raw}");
    }
    let micros = known(Semantic::Instant(Unit::Micros));
    assert_eq!(
        convert("-9223372036854775808", ColumnKind::Timestamp, micros),
        Err(ValueError::OutOfRange)
    );
    let days = known(Semantic::Instant(Unit::Days));
    assert_eq!(convert("2147483647", ColumnKind::Date, days), Err(ValueError::OutOfRange));
}

proptest! {
    #[test]
    fn an_instant_of_any_year_of_oracle_survives_every_mode(
        // 4712 BC to 9999, in microseconds.
        micros in -210_831_897_600_000_000_i64..253_402_300_800_000_000,
        hours in -14_i32..=14,
    ) {
        let expected = Ok(Value::Int(micros));
        let instant = DateTime::<Utc>::from_timestamp_micros(micros).expect("in range");
        let there = instant.with_timezone(&FixedOffset::east_opt(hours * 3600).expect("in range"));
        let local = there.naive_local();
        let iso = |text: String| format!("\"{text}\"");
        for raw in [
            iso(instant.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
            iso(there.to_rfc3339_opts(chrono::SecondsFormat::Nanos, false)),
            format!(
                r#"{{"year":{},"month":{},"day":{},"hour":{},"minute":{},"second":{},"nanos":{},"offset":{}}}"#,
                local.year(), local.month(), local.day(), local.hour(), local.minute(), local.second(),
                local.nanosecond(), hours * 3600
            ),
        ] {
            prop_assert_eq!(convert(&raw, ColumnKind::Timestamp, known(Semantic::Text)), expected.clone(), "{}", raw);
        }
        let count = |count: i64, unit| {
            let raw = count.to_string();
            convert(&raw, ColumnKind::Timestamp, known(Semantic::Instant(unit))).map(|value| value.int())
        };
        prop_assert_eq!(count(micros, Unit::Micros), Ok(Some(micros)));
        if let Some(nanos) = micros.checked_mul(1000) {
            prop_assert_eq!(count(nanos, Unit::Nanos), Ok(Some(micros)));
        }
        let millis = micros.div_euclid(1000);
        prop_assert_eq!(count(millis, Unit::Millis), Ok(Some(millis * 1000)));
    }

    #[test]
    fn any_bytes_survive_every_mode(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        use base64::engine::general_purpose::URL_SAFE;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let texts = [
            (STANDARD.encode(&bytes), Semantic::Base64),
            (URL_SAFE.encode(&bytes), Semantic::Base64Url),
            (hex, Semantic::Hex),
        ];
        let expected = Ok(Value::Bytes(bytes));
        for (text, semantic) in texts {
            let raw = format!("\"{text}\"");
            prop_assert_eq!(convert(&raw, ColumnKind::Binary, known(semantic)), expected.clone(), "{}", raw);
            // Untold, it is these bytes or refused.
            let untold = plain(&raw, ColumnKind::Binary);
            prop_assert!(untold == expected || untold == Err(ValueError::AmbiguousBinary), "{} {:?}", raw, untold);
        }
    }
}
