mod modes;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::decimal::Exact;
use super::*;

const UNKNOWN: Encoding = Encoding { semantic: Semantic::Unknown, is_remembered: true };
const MONEY: ColumnKind = ColumnKind::Decimal { precision: 15, scale: 2 };

fn known(semantic: Semantic) -> Encoding {
    Encoding { semantic, is_remembered: false }
}

fn plain(raw: &str, kind: ColumnKind) -> Result<Value<'_>, ValueError> {
    convert(raw, kind, UNKNOWN)
}

fn not<T>(expected: &'static str) -> Result<T, ValueError> {
    Err(ValueError::Not { expected })
}

#[test]
fn every_declared_type_has_a_kind_and_others_have_none() {
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    assert_eq!(ColumnKind::of(&zoned), Some(ColumnKind::Timestamp));
    assert_eq!(ColumnKind::of(&DataType::Decimal128(15, 2)), Some(MONEY));
    assert_eq!(ColumnKind::of(&DataType::UInt8), None);
}

#[test]
fn integers_are_taken_only_when_they_are_exact_and_in_range() {
    for raw in ["100", "\"100\"", "100.0", "1E2", "\"1.0e+2\"", r#"{"scale":0,"value":"ZA=="}"#] {
        assert_eq!(plain(raw, ColumnKind::Int16), Ok(Value::Int(100)), "{raw}");
    }
    assert_eq!(plain("9223372036854775807", ColumnKind::Int64), Ok(Value::Int(i64::MAX)));
    assert_eq!(plain("9223372036854775808", ColumnKind::Int64), Err(ValueError::OutOfRange));
    assert_eq!(plain("32768", ColumnKind::Int16), Err(ValueError::OutOfRange));
    assert_eq!(plain("-2147483649", ColumnKind::Int32), Err(ValueError::OutOfRange));
    assert_eq!(plain("1.5", ColumnKind::Int64), Err(ValueError::Inexact));
    assert_eq!(plain(r#"{"scale":1,"value":"AQ=="}"#, ColumnKind::Int64), Err(ValueError::Inexact));
    for raw in ["true", "\"\"", "\"1 \"", "[1]", "[0,\"AQ==\"]"] {
        assert_eq!(plain(raw, ColumnKind::Int64), not("a number"), "{raw}");
    }
    let bytes = known(Semantic::Decimal { scale: 0 });
    assert_eq!(convert("\"AfQ=\"", ColumnKind::Int64, bytes), Ok(Value::Int(500)));
}

#[test]
fn decimals_come_from_their_text_and_keep_every_digit() {
    for raw in ["1500.00", "1500", "\"1500.00\"", "1.5E+3", "15e2", "150000e-2", "1500.000000"] {
        assert_eq!(plain(raw, MONEY), Ok(Value::Decimal(150_000)), "{raw}");
    }
    let full = ColumnKind::Decimal { precision: 38, scale: 0 };
    let nines = "9".repeat(38);
    let most = 10_i128.pow(38) - 1;
    assert_eq!(plain(&nines, full), Ok(Value::Decimal(most)));
    assert_eq!(plain(&format!("-{nines}.0"), full), Ok(Value::Decimal(-most)));
    assert_eq!(plain(&format!("{nines}9"), full), Err(ValueError::OutOfRange));
    assert_eq!(plain("1e38", full), Err(ValueError::OutOfRange));
    assert_eq!(plain("1.005", MONEY), Err(ValueError::Inexact));
    assert_eq!(plain("1e-99999999999999999999", MONEY), Err(ValueError::Inexact));
    assert_eq!(plain("1e99999999999999999999", MONEY), Err(ValueError::OutOfRange));
    assert_eq!(plain("0e99999999999999999999", MONEY), Ok(Value::Decimal(0)));
    assert_eq!(plain("10000000000000", MONEY), Err(ValueError::OutOfRange));
    let hundreds = ColumnKind::Decimal { precision: 3, scale: -2 };
    assert_eq!(plain("12300", hundreds), Ok(Value::Decimal(123)));
    assert_eq!(plain("12350", hundreds), Err(ValueError::Inexact));
    for raw in ["\"1.2.3\"", "\"-\"", "\".\"", "\"1e\"", "\"0x1\"", "\"NaN\"", "true"] {
        assert_eq!(plain(raw, MONEY), not("a number"), "{raw}");
    }
}

#[test]
fn base64_takes_its_scale_from_the_schema_else_from_the_declaration() {
    let of = |scale| known(Semantic::Decimal { scale });
    assert_eq!(convert("\"AMg=\"", MONEY, of(2)), Ok(Value::Decimal(200)));
    assert_eq!(convert("\"AMg=\"", MONEY, of(1)), Ok(Value::Decimal(2000)));
    assert_eq!(convert("\"AMg=\"", MONEY, of(4)), Ok(Value::Decimal(2)));
    assert_eq!(convert("\"AMk=\"", MONEY, of(4)), Err(ValueError::Inexact));
    assert_eq!(plain("\"AMg=\"", MONEY), Ok(Value::Decimal(200)));
    assert_eq!(plain("\"/w==\"", MONEY), Ok(Value::Decimal(-1)));
}

#[test]
fn text_that_is_a_number_and_base64_follows_the_schema_and_is_never_guessed_against_it() {
    let bytes = Semantic::Decimal { scale: 2 };
    let unscaled = Value::Decimal(0xd7_6df8 - (1 << 24));
    assert_eq!(convert("\"1234\"", MONEY, known(bytes)), Ok(unscaled));
    assert_eq!(convert("\"1234\"", MONEY, known(Semantic::Text)), Ok(Value::Decimal(123_400)));
    assert_eq!(convert("\"AMg=\"", MONEY, known(Semantic::Text)), not("a number"));
    let remembered = Encoding { semantic: bytes, is_remembered: true };
    assert_eq!(convert("\"1234\"", MONEY, remembered), Err(ValueError::AmbiguousDecimal));
    assert_eq!(convert("\"1234.00\"", MONEY, remembered), Ok(Value::Decimal(123_400)));
    assert_eq!(convert("\"AMg=\"", MONEY, remembered), Ok(Value::Decimal(200)));
}

#[test]
fn digits_that_may_be_base64_are_refused_where_nobody_says_what_they_are() {
    let whole = |precision| ColumnKind::Decimal { precision, scale: 0 };
    for (raw, kind) in [
        ("\"1234\"", MONEY),
        ("\"1E+3\"", MONEY),
        ("\"+123\"", MONEY),
        ("\"12345678\"", MONEY),
        ("\"1234\"", whole(38)),
        ("\"1234567890123456\"", whole(38)),
        // The column holds neither.
        ("\"1234\"", whole(3)),
    ] {
        assert_eq!(plain(raw, kind), Err(ValueError::AmbiguousDecimal), "{raw} {kind:?}");
    }
    // In base64 it is another number, which the column does not hold, or the only one that it holds.
    let held = [
        ("\"1234\"", whole(6), 1234),
        ("\"1234\"", ColumnKind::Decimal { precision: 15, scale: 13 }, -2_658_824),
        ("\"12345678\"", ColumnKind::Decimal { precision: 10, scale: 2 }, 1_234_567_800),
        ("\"1000\"", ColumnKind::Decimal { precision: 6, scale: 2 }, 100_000),
    ];
    for (raw, kind, unscaled) in held {
        assert_eq!(plain(raw, kind), Ok(Value::Decimal(unscaled)), "{raw} {kind:?}");
        let bytes = Semantic::Decimal {
            scale: match kind {
                ColumnKind::Decimal { scale, .. } => scale.into(),
                _ => 0,
            },
        };
        let remembered = Encoding { semantic: bytes, is_remembered: true };
        assert_eq!(convert(raw, kind, remembered), Ok(Value::Decimal(unscaled)), "{raw} {kind:?}");
    }
    for (raw, unscaled) in
        [("1234", 123_400), ("\"1234.00\"", 123_400), ("\"123\"", 12_300), ("\"-123\"", -12_300)]
    {
        assert_eq!(plain(raw, MONEY), Ok(Value::Decimal(unscaled)), "{raw}");
    }
    // Untold, these columns take no base64 at all.
    assert_eq!(plain("\"1234\"", ColumnKind::Int64), Ok(Value::Int(1234)));
    assert_eq!(plain("\"AfQ=\"", ColumnKind::Int64), Err(ValueError::UntoldBase64));
    assert_eq!(plain("\"1234\"", ColumnKind::Float64), Ok(Value::Float(1234.0)));
    // A plain NUMBER comes with its scale, or as text.
    let variable = Encoding { semantic: Semantic::VariableScale, is_remembered: true };
    assert_eq!(convert("\"1234\"", MONEY, variable), Ok(Value::Decimal(123_400)));
    assert_eq!(convert("\"AMg=\"", MONEY, variable), not("a number"));
    // Bytes that are no number by their schema.
    assert_eq!(convert("\"1234\"", MONEY, known(Semantic::Base64)), not("a number"));
}

#[test]
fn a_mantissa_beyond_128_bits_fits_if_it_ends_in_zeros() {
    let wide = arrow::datatypes::i256::from_i128(7 * 10_i128.pow(37))
        .wrapping_mul(arrow::datatypes::i256::from_i128(10_i128.pow(9)));
    let base64 = STANDARD.encode(wide.to_be_bytes());
    let raw = format!(r#"{{"scale":44,"value":"{base64}"}}"#);
    assert_eq!(plain(&raw, MONEY), Ok(Value::Decimal(70_000)));
    let raw = format!(r#"{{"scale":0,"value":"{}"}}"#, STANDARD.encode([1; 33]));
    assert_eq!(plain(&raw, MONEY), Err(ValueError::OutOfRange));
}

#[test]
fn booleans_floats_and_bytes() {
    for (raw, value) in [("true", true), ("0", false), ("\"1\"", true), ("\"false\"", false)] {
        assert_eq!(plain(raw, ColumnKind::Boolean), Ok(Value::Bool(value)));
    }
    assert_eq!(plain("2", ColumnKind::Boolean), not("a boolean"));
    assert_eq!(plain("\"0.1\"", ColumnKind::Float64), Ok(Value::Float(0.1)));
    assert_eq!(plain(r#"{"scale":1,"value":"AQ=="}"#, ColumnKind::Float64), Ok(Value::Float(0.1)));
    assert_eq!(plain("1e400", ColumnKind::Float64), Err(ValueError::OutOfRange));
    assert_eq!(plain("\"NaN\"", ColumnKind::Float64), Err(ValueError::OutOfRange));
    assert_eq!(plain("\"AQI=\"", ColumnKind::Binary), Ok(Value::Bytes(vec![1, 2])));
    assert_eq!(plain("\"*\"", ColumnKind::Binary), not("base64 or hexadecimal"));
}

#[test]
fn text_takes_every_value_as_text_but_no_nul() {
    let pairs = [("\"a\\n\\u00e9\"", "a\né"), ("12.50", "12.50"), ("true", "true"), ("\"\"", "")];
    for (raw, text) in pairs.into_iter().chain([(r#"{"a": [1]}"#, r#"{"a": [1]}"#)]) {
        assert_eq!(plain(raw, ColumnKind::Text), Ok(Value::Text(text.into())));
    }
    assert_eq!(plain("null", ColumnKind::Text), Ok(Value::Null));
    assert_eq!(plain("\"a\\u0000\"", ColumnKind::Text), Err(ValueError::BadCharacter));
    assert_eq!(plain("\"\\ud800\"", ColumnKind::Text), Err(ValueError::BadCharacter));
}

#[test]
fn bad_escapes_are_found_inside_nested_json_only_where_they_are_escapes() {
    assert!(has_bad_escape(r#"{"a":["x","\u0000"]}"#));
    assert!(has_bad_escape(r#"{"\ud800":1}"#));
    assert!(!has_bad_escape(r#"{"a":"\\u0000","b":"\"\u00e9"}"#));
}

/// 2024-01-23T08:53:20Z
const MICROS: i64 = 1_706_000_000_000_000;

#[test]
fn the_schema_gives_a_timestamp_its_unit() {
    let of = |raw, unit| convert(raw, ColumnKind::Timestamp, known(Semantic::Instant(unit)));
    assert_eq!(of("1706000000000", Unit::Millis), Ok(Value::Int(MICROS)));
    assert_eq!(of("1706000000000000", Unit::Micros), Ok(Value::Int(MICROS)));
    assert_eq!(of("1706000000000000999", Unit::Nanos), Ok(Value::Int(MICROS)));
    assert_eq!(of("-1", Unit::Nanos), Ok(Value::Int(-1)));
    assert_eq!(of("19745", Unit::Days), Ok(Value::Int(19_745 * 86_400_000_000)));
    assert_eq!(of("86400000", Unit::Millis), Ok(Value::Int(86_400_000_000)));
    // 9999-12-31, which no magnitude would tell.
    assert_eq!(of("253402214400000", Unit::Millis), Ok(Value::Int(253_402_214_400_000_000)));
    assert_eq!(of("9223372036854775807", Unit::Millis), Err(ValueError::OutOfRange));
}

#[test]
fn without_a_schema_the_magnitude_gives_the_unit_or_the_value_is_refused() {
    for raw in ["1706000000000", "1706000000000000", "1706000000000000000", "\"1706000000000\""] {
        assert_eq!(plain(raw, ColumnKind::Timestamp), Ok(Value::Int(MICROS)), "{raw}");
    }
    assert_eq!(plain("0", ColumnKind::Timestamp), Ok(Value::Int(0)));
    assert_eq!(
        plain("-2208988800000", ColumnKind::Timestamp),
        Ok(Value::Int(-2_208_988_800_000_000))
    );
    assert_eq!(plain("1.706e12", ColumnKind::Timestamp), Ok(Value::Int(MICROS)));
    // 1978-01-07 and 1963-04-26 are the first and last that no coarser unit makes a date of Oracle.
    for micros in [253_402_300_800_000, -210_866_803_200_001, 1_706_000_000_000_000] {
        let raw = micros.to_string();
        assert_eq!(plain(&raw, ColumnKind::Timestamp), Ok(Value::Int(micros)), "{raw}");
        let nanos = format!("{raw}000");
        assert_eq!(plain(&nanos, ColumnKind::Timestamp), Ok(Value::Int(micros)), "{nanos}");
    }
    let ambiguous = [
        // 0001-01-01, also as Java writes it, 0900, 1000, 1600, 4712 BC and 9999 in milliseconds.
        "-62135596800000",
        "-62135769600000",
        "-33765897600000",
        "-30610224000000",
        "-11676096000000",
        "-210863520000000",
        "253370764800000",
        "253402300799999",
        // The same in microseconds.
        "-62135596800000000",
        "-62135769600000000",
        "-11676096000000000",
        "-210863520000000000",
        "253402300799999999",
        "1",
        "19745",
        "1706000000",
        "99999999999",
        "9223372036855",
        "31535999999999",
        // 9999-12-31 in milliseconds and microseconds, 4712-12-31 and 2999-12-31 in milliseconds.
        "253402214400000",
        "253402214400000000",
        "86560617600000",
        "32503593600000",
    ];
    for raw in ambiguous {
        assert_eq!(plain(raw, ColumnKind::Timestamp), Err(ValueError::AmbiguousTime), "{raw}");
    }
    assert_eq!(plain("1.5", ColumnKind::Timestamp), Err(ValueError::Inexact));
    assert_eq!(plain("true", ColumnKind::Timestamp), not("a date or time"));
}

#[test]
fn iso_text_is_an_instant_in_utc() {
    let seconds = MICROS / 1_000_000;
    let at = |text: &str| plain(&format!("\"{text}\""), ColumnKind::Timestamp).map(|v| v.int());
    for text in [
        "2024-01-23T08:53:20Z",
        "2024-01-23 08:53:20",
        "2024-01-23T08:53:20.000000000Z",
        "2024-01-23T10:53:20+02:00",
        "2024-01-23 10:53:20.0 +0200",
        "2024-01-23T07:53:20-01",
    ] {
        assert_eq!(at(text), Ok(Some(seconds * 1_000_000)), "{text}");
    }
    assert_eq!(at("2024-01-20"), Ok(Some(1_705_708_800_000_000)));
    assert_eq!(at("2024-01-15T10:00:00Z"), Ok(Some(1_705_312_800_000_000)));
    assert_eq!(at("2024-12-17T15:23:38.79Z"), Ok(Some(1_734_449_018_790_000)));
    assert_eq!(at("2024-01-15T10:00:00.123456999Z"), Ok(Some(1_705_312_800_123_456)));
    assert_eq!(at("1969-12-31T23:59:59.999999999Z"), Ok(Some(-1)), "as counts are cut");
    for text in [
        "",
        "2024-02-30",
        "2024-1-1",
        "2024-01-15T25:00:00",
        "2024-01-15Tx",
        "12:00",
        "2024-01-15T10:00:00.Z",
        "2024-01-15T10:00:00.0123456789",
        "2024-01-15T10:00:00ZZ",
        "é",
    ] {
        assert_eq!(at(text), not("a date or time"), "{text}");
    }
}

#[test]
fn dates_are_whole_days() {
    assert_eq!(plain("\"2024-01-20\"", ColumnKind::Date), Ok(Value::Int(19_742)));
    assert_eq!(plain("19742", ColumnKind::Date), Ok(Value::Int(19_742)));
    assert_eq!(plain("1705708800000", ColumnKind::Date), Ok(Value::Int(19_742)));
    assert_eq!(plain("1705708800001", ColumnKind::Date), Err(ValueError::TimeOfDay));
    assert_eq!(plain("3000000", ColumnKind::Date), Err(ValueError::AmbiguousTime));
    // Far dates, where only one unit makes a midnight of the count.
    for (raw, days) in [
        ("-62135596800000", -719_162),
        ("-11676096000000", -135_140),
        ("253402214400000", 2_932_896),
        ("253402214400000000", 2_932_896),
        ("-62135596800000000", -719_162),
        ("32503593600000", 376_199),
        ("1705708800000000", 19_742),
        ("1705708800000000000", 19_742),
        ("-719162", -719_162),
    ] {
        assert_eq!(plain(raw, ColumnKind::Date), Ok(Value::Int(days)), "{raw}");
    }
    // 4707-11-29 in milliseconds, 1972-09-27 in microseconds.
    assert_eq!(plain("86400000000000", ColumnKind::Date), Err(ValueError::AmbiguousTime));
    assert_eq!(plain("253402214400001", ColumnKind::Date), Err(ValueError::TimeOfDay));
    let millis = known(Semantic::Instant(Unit::Millis));
    assert_eq!(convert("253402214400000", ColumnKind::Date, millis), Ok(Value::Int(2_932_896)));
}

fn decimal_text(unscaled: i128, scale: i8) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    let sign = if unscaled < 0 { "-" } else { "" };
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let padded = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = padded.split_at(padded.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))),
    }
}

fn base64_of(unscaled: i128) -> String {
    let bytes = unscaled.to_be_bytes();
    let sign = if unscaled < 0 { 0xff } else { 0 };
    // As Java: no more bytes than the sign bit needs.
    let is_redundant = |pair: &[u8]| pair[0] == sign && (pair[1] ^ sign) & 0x80 == 0;
    let skip = bytes.windows(2).take_while(|pair| is_redundant(pair)).count();
    STANDARD.encode(&bytes[skip..])
}

fn decimals() -> impl Strategy<Value = (u8, i8, i128)> {
    (1..=DECIMAL128_MAX_PRECISION).prop_flat_map(|precision| {
        let limit = 10_i128.pow(precision.into());
        let top = i8::try_from(precision).expect("38 fits");
        let edges = prop_oneof![Just(0), Just(limit - 1), Just(1 - limit)];
        (Just(precision), -20..=top, prop_oneof![4 => 1 - limit..limit, 1 => edges])
    })
}

proptest! {
    #[test]
    fn a_decimal_of_any_precision_and_scale_survives_all_encodings((p, s, unscaled) in decimals()) {
        let kind = ColumnKind::Decimal { precision: p, scale: s };
        let expected = Ok(Value::Decimal(unscaled));
        let text = decimal_text(unscaled, s);
        let base64 = base64_of(unscaled);
        let exponent = -i32::from(s);
        for raw in [
            text.clone(),
            format!("\"{text}\""),
            format!("{unscaled}E{exponent}"),
            format!("\"{unscaled}e{exponent:+}\""),
            format!(r#"{{"scale":{s},"value":"{base64}"}}"#),
            format!(r#"{{"value":"{base64}","scale":{s}}}"#),
        ] {
            prop_assert_eq!(convert(&raw, kind, known(Semantic::Text)), expected.clone(), "{}", raw);
            let untold = convert(&raw, kind, UNKNOWN);
            let is_base64 = STANDARD.decode(raw.trim_matches('"')).is_ok();
            let is_refused = is_base64 && untold == Err(ValueError::AmbiguousDecimal);
            prop_assert!(untold == expected || is_refused, "{} {:?}", raw, untold);
        }
        let bytes = format!("\"{base64}\"");
        let schema = known(Semantic::Decimal { scale: s.into() });
        prop_assert_eq!(convert(&bytes, kind, schema), expected.clone());
        let untold = convert(&bytes, kind, UNKNOWN);
        let is_number = Exact::parse(&base64).is_ok();
        let is_refused = is_number && untold == Err(ValueError::AmbiguousDecimal);
        prop_assert!(untold == expected || is_refused, "{} {:?}", bytes, untold);
        prop_assert_eq!(convert("null", kind, schema), Ok(Value::Null));
    }

    #[test]
    fn an_instant_of_1974_to_2261_is_the_same_in_every_unit(millis in 126_230_400_000_i64..9_183_110_400_000) {
        let expected = Ok(Value::Int(millis * 1000));
        // Until 1978 the finer units look like far dates of the coarser ones.
        let units = if millis < 253_402_300_800 { &[""][..] } else { &["", "000", "000000"] };
        for zeros in units {
            let raw = format!("{millis}{zeros}");
            prop_assert_eq!(plain(&raw, ColumnKind::Timestamp), expected.clone(), "{}", raw);
        }
    }

    #[test]
    fn any_valid_json_string_converts_or_is_refused(text in ".{0,30}") {
        let raw = serde_json::Value::from(text.clone()).to_string();
        for kind in [ColumnKind::Boolean, ColumnKind::Int64, ColumnKind::Float64, MONEY, ColumnKind::Binary, ColumnKind::Date, ColumnKind::Timestamp] {
            let _ = plain(&raw, kind);
        }
        let expected = if text.contains('\0') { Err(ValueError::BadCharacter) } else { Ok(Value::Text(text.into())) };
        prop_assert_eq!(plain(&raw, ColumnKind::Text), expected);
    }
}
