//! Any number of 38 digits at any scale, and any instant of Oracle's years, in whatever mode.

use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::connector::{
    BINARIES, Decimals, Field, INTERVALS, Modes, Oracle, TIMES, Times, plain_text,
};
use super::{SchemaSection, Table, event, land, select, shown};

const COLUMNS: [(&str, &str); 9] = [
    ("d0", "DECIMAL(38,0)"),
    ("d2", "DECIMAL(38,2)"),
    ("d10", "DECIMAL(38,10)"),
    ("d19", "DECIMAL(38,19)"),
    ("d38", "DECIMAL(38,38)"),
    ("digits", "TEXT"),
    ("stamp", "TIMESTAMP"),
    ("zoned", "TIMESTAMPTZ"),
    ("raw", "BYTEA"),
];
const SCALES: [i32; 5] = [0, 2, 10, 19, 38];

/// From 4712 BC to 9999.
const MICROS: std::ops::Range<i64> = -210_831_897_600_000_000..253_402_300_800_000_000;
/// What nanoseconds reach.
const NANOS_MICROS: std::ops::Range<i64> = -9_223_372_036_854_775..9_223_372_036_854_775;

fn modes(random: &mut StdRng) -> Modes {
    // A double holds no such number.
    let decimals = [Decimals::Precise, Decimals::Text, Decimals::TextOfIntegers];
    Modes {
        decimals: decimals[random.random_range(0..decimals.len())],
        times: TIMES[random.random_range(0..TIMES.len())],
        intervals: INTERVALS[random.random_range(0..INTERVALS.len())],
        binaries: BINARIES[random.random_range(0..BINARIES.len())],
    }
}

/// Of any number of digits, up to the most: small ones are as likely as large ones.
fn unscaled(random: &mut StdRng, most: i32) -> i128 {
    let digits = random.random_range(0..=most);
    let limit = 10_i128.pow(digits.unsigned_abs());
    random.random_range(1 - limit..limit)
}

/// A number for a DECIMAL(38, scale), and what Postgres shows of it.
fn number(random: &mut StdRng, scale: i32, modes: Modes) -> (Field, String) {
    // Its own scale is another where the event says so.
    let own = random.random_range(-20..=scale);
    let value = unscaled(random, 38 - (scale - own).min(38));
    let at_scale = value * 10_i128.pow((scale - own).min(38).unsigned_abs());
    let own = if scale - own > 38 { scale } else { own };
    let shown = plain_text(at_scale, scale);
    let field = match random.random_range(0..4) {
        0 => Oracle::AnyNumber { scale: own, unscaled: value }.field(modes),
        // `decimal.format=NUMERIC` of the converter.
        1 => (plain_text(value, own), r#""type":"bytes""#.to_owned()),
        2 => (format!("{value}E{}", -own), r#""type":"double""#.to_owned()),
        _ => Oracle::Number { precision: 38, scale, unscaled: at_scale }.field(modes),
    };
    (field, shown)
}

/// A plain NUMBER for a TEXT column: whatever digits it has.
fn digits(random: &mut StdRng, modes: Modes) -> (Field, String) {
    let (scale, unscaled) = (random.random_range(-84..=127), unscaled(random, 38));
    (Oracle::AnyNumber { scale, unscaled }.field(modes), plain_text(unscaled, scale))
}

fn instant(random: &mut StdRng, is_in_nanos: bool) -> DateTime<Utc> {
    let range = if is_in_nanos { NANOS_MICROS } else { MICROS };
    DateTime::from_timestamp_micros(random.random_range(range)).expect("a time")
}

/// An event, and its row: instants as microseconds since 1970.
fn row(random: &mut StdRng, id: i64) -> (String, String) {
    let modes = modes(random);
    let mut fields = Vec::new();
    let mut values = vec![id.to_string()];
    let mut add = |field: Field, value: String| {
        fields.push((COLUMNS[fields.len()].0, field));
        values.push(value);
    };
    for scale in SCALES {
        let (field, value) = number(random, scale, modes);
        add(field, value);
    }
    let (field, value) = digits(random, modes);
    add(field, value);

    let precision = random.random_range(4..=9);
    let is_adaptive = matches!(modes.times, Times::Adaptive | Times::AdaptiveTimeMicroseconds);
    let is_in_nanos = modes.times == Times::Nanoseconds || (is_adaptive && precision > 6);
    let at = instant(random, is_in_nanos);
    let exact = at.timestamp_micros();
    let micros = if modes.times == Times::Connect { exact.div_euclid(1000) * 1000 } else { exact };
    add(Oracle::Timestamp { precision, at }.field(modes), micros.to_string());
    let at = instant(random, false);
    let offset = random.random_range(-14 * 4..=14 * 4) * 900;
    add(Oracle::Zoned { at, offset }.field(modes), at.timestamp_micros().to_string());

    // Begun so, base64 is not hexadecimal; of an odd number of bytes, hexadecimal is not base64.
    let mut bytes = vec![0xfb, 0xff];
    bytes.extend((0..random.random_range(0..20) * 2 + 1).map(|_| random.random::<u8>()));
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    add(Oracle::Bytes(bytes).field(modes), hex);
    (event("random", id, &fields, SchemaSection::With), values.join("|"))
}

#[tokio::test]
async fn any_number_and_any_instant_is_in_postgres_what_it_was_in_oracle() {
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let (events, expected): (Vec<String>, Vec<String>) =
        (0..1000).map(|id| row(&mut random, id)).unzip();
    let table = Table { name: "random".to_owned(), encodings: String::new() };
    let shop = land(&[table], &COLUMNS, &events).await;
    let letters = shown(&shop, "SELECT error_message, payload FROM cdc_dlq LIMIT 3").await;
    assert_eq!(letters, [""; 0], "seed {seed}");
    let micros = |name: &str| format!("(extract(epoch FROM {name}) * 1000000)::bigint");
    let query = select("random", &COLUMNS)
        .replace("zoned AT TIME ZONE 'UTC'", &micros("zoned"))
        .replace("stamp", &micros("stamp"));
    let rows = shown(&shop, &query).await;
    assert_eq!(rows.len(), expected.len(), "seed {seed}");
    for ((row, expected), event) in rows.iter().zip(&expected).zip(&events) {
        assert_eq!(row, expected, "seed {seed}: {event}");
    }
    shop.stack.stop().await.expect("the servers end");
}
