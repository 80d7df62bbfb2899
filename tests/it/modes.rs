//! The types of Oracle in every mode of the connector, through the whole processor, to the last digit.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::shop::{Shop, copied_sql};

const COLUMNS: &str = "id BIGINT PRIMARY KEY, whole DECIMAL(38,0), hundreds DECIMAL(38,0), money DECIMAL(38,10), \
    any_number TEXT, small INTEGER, flag BOOLEAN, real_number DOUBLE PRECISION, day TIMESTAMP, stamp TIMESTAMP, \
    zoned TIMESTAMPTZ, span TEXT, raw BYTEA, clob TEXT, doc TEXT, xml TEXT, rid TEXT";

/// What the landing tables show, in the order of the columns.
const SHOWN: &str = "id, whole, hundreds, money, any_number, small, flag, real_number, day, stamp, \
    zoned AT TIME ZONE 'UTC', span, encode(raw, 'hex'), clob, doc, xml, rid";

const MONEY: &str = "1234567890123456789012345678.0123456789";
const ANY: &str = "1.2345678901234567890123456789012345678";
const NINES: &str = "-99999999999999999999999999999999999999";
/// 4712-06-01 12:34:56 BC, which Oracle can hold.
const DAY_MILLIS: i64 = -210_818_805_904_000;
/// 9999-12-31 23:59:59.999999
const STAMP_MICROS: i64 = 253_402_300_799_999_999;

/// One field: its name, its value as JSON, and its schema without the name.
type Field = (&'static str, String, String);

fn typed(json_type: &str, name: &str) -> String {
    format!(r#""type":"{json_type}","name":"{name}""#)
}

fn simple(json_type: &str) -> String {
    format!(r#""type":"{json_type}""#)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Base64 of the unscaled value, as Java writes it.
fn unscaled(value: i128) -> String {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let is_redundant = |pair: &[u8]| pair[0] == sign && (pair[1] ^ sign) & 0x80 == 0;
    let skip = bytes.windows(2).take_while(|pair| is_redundant(pair)).count();
    STANDARD.encode(&bytes[skip..])
}

fn decimal(value: i128, scale: i32) -> (String, String) {
    let name = "org.apache.kafka.connect.data.Decimal";
    let schema = format!(r#"{},"parameters":{{"scale":"{scale}"}}"#, typed("bytes", name));
    (quoted(&unscaled(value)), schema)
}

fn digits(text: &str) -> i128 {
    text.replace('.', "").parse().expect("a number of 38 digits")
}

/// `decimal.handling.mode=precise`, `time.precision.mode=adaptive`, `binary.handling.mode=bytes`.
fn precise(id: i64) -> Vec<Field> {
    let (whole, whole_schema) = decimal(digits(NINES), 0);
    let (hundreds, hundreds_schema) = decimal(12_345, -2);
    let (money, money_schema) = decimal(digits(MONEY), 10);
    let any = format!(r#"{{"scale":37,"value":"{}"}}"#, unscaled(digits(ANY)));
    vec![
        ("ID", id.to_string(), simple("int64")),
        ("WHOLE", whole, whole_schema),
        ("HUNDREDS", hundreds, hundreds_schema),
        ("MONEY", money, money_schema),
        ("ANY_NUMBER", any, typed("struct", "io.debezium.data.VariableScaleDecimal")),
        ("SMALL", "32767".to_owned(), simple("int16")),
        ("FLAG", "1".to_owned(), simple("int8")),
        ("REAL_NUMBER", "0.1".to_owned(), simple("double")),
        ("DAY", DAY_MILLIS.to_string(), typed("int64", "io.debezium.time.Timestamp")),
        ("STAMP", STAMP_MICROS.to_string(), typed("int64", "io.debezium.time.MicroTimestamp")),
        (
            "ZONED",
            quoted("2024-03-31T02:30:00.123456+02:00"),
            typed("string", "io.debezium.time.ZonedTimestamp"),
        ),
        ("SPAN", "37091106.5".to_owned(), typed("double", "io.debezium.time.MicroDuration")),
        ("RAW", quoted("+/++"), simple("bytes")),
        ("CLOB", quoted("Grüße 😀"), simple("string")),
        ("DOC", quoted(r#"{"a": [1.10]}"#), typed("string", "io.debezium.data.Json")),
        ("XML", quoted("<a>&lt;</a>"), typed("string", "io.debezium.data.Xml")),
        ("RID", quoted("AAAShYAAFAAAAMdAAA"), simple("string")),
    ]
}

fn with(mut fields: Vec<Field>, others: &[(&str, String, String)]) -> Vec<Field> {
    for (name, value, schema) in others {
        let field = fields.iter_mut().find(|field| field.0 == *name).expect("a column");
        (field.1, field.2) = (value.clone(), schema.clone());
    }
    fields
}

/// `string`, `isostring`, `base64`/`hex`, `interval.handling.mode=string`.
fn strings(id: i64, raw: &str) -> Vec<Field> {
    let text = |name: &'static str, value: &str| (name, quoted(value), simple("string"));
    with(
        precise(id),
        &[
            text("WHOLE", NINES),
            text("HUNDREDS", "1234500"),
            text("MONEY", MONEY),
            text("ANY_NUMBER", ANY),
            text("DAY", "-4711-06-01T12:34:56Z"),
            text("STAMP", "9999-12-31T23:59:59.999999Z"),
            text("SPAN", "P1Y2M3DT4H5M6.78S"),
            text("RAW", raw),
        ],
    )
}

fn connect(id: i64) -> Vec<Field> {
    let class = |name: &str| typed("int64", &format!("org.apache.kafka.connect.data.{name}"));
    with(
        precise(id),
        &[
            ("DAY", "-2440033".to_owned(), class("Date")),
            ("STAMP", "253402300799999".to_owned(), class("Timestamp")),
        ],
    )
}

fn structured(id: i64) -> Vec<Field> {
    let at = |time: &str| format!(r#"{{{time}}}"#);
    with(
        precise(id),
        &[
            (
                "DAY",
                at(r#""year":-4711,"month":6,"day":1,"hour":12,"minute":34,"second":56,"nanos":0"#),
                simple("struct"),
            ),
            (
                "STAMP",
                at(
                    r#""year":9999,"month":12,"day":31,"hour":23,"minute":59,"second":59,"nanos":999999000,"precision":6"#,
                ),
                simple("struct"),
            ),
        ],
    )
}

fn doubles(id: i64) -> Vec<Field> {
    let double = |name: &'static str, value: &str| (name, value.to_owned(), simple("double"));
    with(
        precise(id),
        &[
            double("WHOLE", "-1.0E37"),
            double("HUNDREDS", "1234500.0"),
            double("MONEY", "1234567.125"),
        ],
    )
}

fn event(table: &str, fields: &[Field], has_schema: bool) -> String {
    let join = |parts: Vec<String>| parts.join(",");
    let row = join(fields.iter().map(|(name, value, _)| format!(r#""{name}":{value}"#)).collect());
    let payload = format!(
        r#"{{"before":null,"after":{{{row}}},"source":{{"schema":"S","table":"{table}","ts_ms":1706000000000}},"op":"c"}}"#
    );
    if !has_schema {
        return payload;
    }
    let fields = join(
        fields
            .iter()
            .map(|(name, _, schema)| format!(r#"{{"field":"{name}",{schema}}}"#))
            .collect(),
    );
    format!(
        r#"{{"schema":{{"type":"struct","fields":[{{"field":"after","type":"struct","fields":[{fields}]}}]}},"payload":{payload}}}"#
    )
}

fn expected(id: i64, others: &[(usize, &str)]) -> String {
    let mut row = [
        &id.to_string(),
        NINES,
        "1234500",
        MONEY,
        ANY,
        "32767",
        "t",
        "0.1",
        "4712-06-01 12:34:56 BC",
        "9999-12-31 23:59:59.999999",
        "2024-03-31 00:30:00.123456",
        "37091106.5",
        "fbffbe",
        "Grüße 😀",
        r#"{"a": [1.10]}"#,
        "<a>&lt;</a>",
        "AAAShYAAFAAAAMdAAA",
    ]
    .map(str::to_owned);
    for (at, value) in others {
        row[*at] = (*value).to_owned();
    }
    row.join("|")
}

/// Any 38 digits at scale 10 in one of four forms, and any instant of Oracle's years in one of two.
fn random(random: &mut StdRng, id: i64) -> (String, String) {
    let value = random.random_range(1 - 10_i128.pow(38)..10_i128.pow(38));
    let text = format!("{:0>11}", value.unsigned_abs());
    let (whole, places) = text.split_at(text.len() - 10);
    let text = format!("{}{whole}.{places}", if value < 0 { "-" } else { "" });
    let micros = random.random_range(-210_831_897_600_000_000..253_402_300_800_000_000_i64);
    let at = chrono::DateTime::from_timestamp_micros(micros).expect("a time");
    let (base64, decimal_schema) = decimal(value, 10);
    let (money, money_schema) = match id % 4 {
        0 => (base64, decimal_schema),
        1 => (quoted(&text), simple("string")),
        2 => (
            format!(r#"{{"scale":10,"value":{base64}}}"#),
            typed("struct", "io.debezium.data.VariableScaleDecimal"),
        ),
        _ => (text.clone(), simple("double")),
    };
    let (stamp, stamp_schema) = match id % 2 {
        0 => (micros.to_string(), typed("int64", "io.debezium.time.MicroTimestamp")),
        _ => (quoted(&at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)), simple("string")),
    };
    let fields = [
        ("ID", id.to_string(), simple("int64")),
        ("MONEY", money, money_schema),
        ("STAMP", stamp, stamp_schema),
    ];
    (event("TYPES", &fields, true), format!("{id}|{text}|{micros}"))
}

fn declare(sql: &std::path::Path) {
    for (table, encodings) in [
        ("types", ""),
        ("told", ", encodings = 'whole base64, money base64, day ms, stamp us, raw hex'"),
    ] {
        let source = table.to_uppercase();
        let declaration = format!(
            "CREATE TABLE {table} ({COLUMNS}) WITH (source = 'S.{source}', ttl = 'none'{encodings});"
        );
        std::fs::write(sql.join(format!("tables/{table}.sql")), declaration).expect("written");
        let target = format!(
            "CREATE TABLE cdc_{table} ({}, operation TEXT, source_ts TIMESTAMP, extra_fields JSONB, event_id TEXT, change_seq BIGINT);",
            COLUMNS.replace(" PRIMARY KEY", "")
        );
        std::fs::write(sql.join(format!("ods/90_{table}.sql")), target).expect("written");
    }
}

async fn shown(shop: &Shop, query: &str) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let rows = shop.query(query).await;
    rows.iter().map(|row| row.iter().map(value).collect::<Vec<_>>().join("|")).collect()
}

#[tokio::test]
async fn every_type_in_every_mode_arrives_to_the_last_digit() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    declare(&sql);
    let told = with(
        precise(8),
        &[("RAW", quoted("abcd"), simple("string")), ("ANY_NUMBER", quoted(ANY), simple("string"))],
    );
    let told = with(told, &[("HUNDREDS", "1234500".to_owned(), simple("int64"))]);
    let mut events = vec![
        event("TYPES", &strings(1, "fbffbe"), false),
        event("TYPES", &precise(2), true),
        event("TYPES", &strings(3, "fbffbe"), true),
        event("TYPES", &strings(4, "-_--"), true),
        event("TYPES", &connect(5), true),
        event("TYPES", &structured(6), true),
        event("TYPES", &doubles(7), true),
        event("TOLD", &told, false),
        // Bytes that may be base64 or hexadecimal, told by nobody: a dead letter.
        event("TYPES", &strings(9, "abcd"), true),
    ];
    let mut source = StdRng::seed_from_u64(7);
    let (random_events, random_rows): (Vec<String>, Vec<String>) =
        (1000..1300).map(|id| random(&mut source, id)).unzip();
    events.extend(random_events);
    let path = folder.path().join("events.ndjson");
    std::fs::write(&path, events.join("\n") + "\n").expect("written");

    let shop =
        Shop::open_with(|settings| tidemark::cli::stack::Settings { sql: sql.clone(), ..settings })
            .await;
    shop.read_file(&path, "");
    let mut processor = shop.stack.processor(None).expect("a processor");
    assert!(shop.wait_for_end(&mut processor).await, "{}", shop.log_tail("run"));

    let of = |table: &str| format!("SELECT {SHOWN} FROM cdc_{table} WHERE id < 1000 ORDER BY id");
    let span = (11, "P1Y2M3DT4H5M6.78S");
    assert_eq!(
        shown(&shop, &of("types")).await,
        [
            expected(1, &[span]),
            expected(2, &[]),
            expected(3, &[span]),
            expected(4, &[span]),
            expected(5, &[(8, "4712-06-01 00:00:00 BC"), (9, "9999-12-31 23:59:59.999")]),
            expected(6, &[]),
            expected(
                7,
                &[(1, "-10000000000000000000000000000000000000"), (3, "1234567.1250000000")]
            ),
        ]
    );
    assert_eq!(shown(&shop, &of("told")).await, [expected(8, &[(12, "abcd")])]);
    let letters = shown(&shop, "SELECT error_type, error_message FROM cdc_dlq").await;
    assert!(
        letters.len() == 1 && letters[0].contains("may be base64 or hexadecimal"),
        "{letters:?}"
    );
    let random = "SELECT id, money, (extract(epoch FROM stamp) * 1000000)::bigint FROM cdc_types \
                  WHERE id >= 1000 ORDER BY id";
    assert_eq!(shown(&shop, random).await, random_rows);
    shop.stack.stop().await.expect("the servers end");
}
