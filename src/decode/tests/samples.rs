use arrow::array::{Array, AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;

const ALL_TYPES: &str = include_str!("../../../tests/samples/oracle-1.6-all-types.ndjson");
const SCHEMALESS: &str = include_str!("../../../tests/samples/oracle-1.9-schemaless.ndjson");
const PRECISE: &str = include_str!("../../../tests/samples/oracle-3.0-precise-with-schema.ndjson");
const STRINGS: &str = include_str!("../../../tests/samples/oracle-3.0-string-mode.ndjson");
const SPECIAL: &str = include_str!("../../../tests/samples/oracle-special-events.ndjson");

fn decode_lines(table: Table, lines: &str) -> Decoded {
    decode(table, &lines.lines().collect::<Vec<_>>())
}

fn shown(batch: &RecordBatch, row: usize, columns: usize) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let show = |column: &dyn Array| {
        let formatter = ArrayFormatter::try_new(column, &options).expect("a type with a text form");
        formatter.value(row).to_string()
    };
    batch.columns()[..columns].iter().map(|column| show(column.as_ref())).collect()
}

fn fees() -> Table {
    let columns = [
        ("fee_id", DataType::Int64),
        ("currency", DataType::Utf8),
        ("slab_from", DataType::Decimal128(16, 2)),
        ("slab_to", DataType::Decimal128(16, 2)),
        ("other_fee", DataType::Decimal128(16, 4)),
        ("status", DataType::Utf8),
        ("created_at", TIMESTAMP),
        ("modified_at", TIMESTAMP),
    ];
    table(("APP", "FEES"), &columns)
}

#[test]
fn all_types_of_an_old_connector() {
    let columns = [
        ("f1", DataType::Int16),
        ("f2", DataType::Decimal128(38, 0)),
        ("f3", DataType::Float64),
        ("f7", DataType::Int64),
        ("f10", DataType::Binary),
        ("f11", DataType::Utf8),
        ("f27", TIMESTAMP),
        ("f28", TIMESTAMP),
        ("f30", TIMESTAMP),
        ("f29", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ];
    let decoded = decode_lines(table(("QA_SOURCE", "ALL_TYPES1"), &columns), ALL_TYPES);
    assert_eq!(decoded.dead_letters, []);
    let changes = &decoded.changes[0];
    let expected = [
        "1",
        "1",
        "1.0",
        "1",
        "NULL",
        "1",
        "2024-12-17T15:23:32",
        "2024-12-17T15:23:34",
        "2024-12-17T15:23:37.618",
    ];
    assert_eq!(shown(&changes.batch, 0, 9), expected);
    assert_eq!(micros(changes, 9), [Some(1_734_449_015_000_000)]);
    assert_eq!(changes.operations, [Operation::Read]);
    let extra = texts(changes, SystemColumn::ExtraFields)[0].expect("undeclared columns");
    assert!(extra.starts_with(r#"{"F4":1,"F5":1,"F6":1,"F8":1,"F9":{"scale":0,"value":"AQ=="},"#));
}

#[test]
fn an_undeclared_table_says_what_to_declare() {
    let decoded = decode_lines(orders(), ALL_TYPES);
    let letter = &decoded.dead_letters[0];
    assert_eq!(letter.error_type, ErrorType::UnknownTable);
    assert_eq!(
        letter.message,
        "table QA_SOURCE.ALL_TYPES1 is not declared: add a file under sql/tables with \
         CREATE TABLE all_types1 (...) WITH (source = 'QA_SOURCE.ALL_TYPES1')"
    );
    assert_eq!(letter.payload, ALL_TYPES.trim_end());
    assert_eq!(letter.properties, [("key".to_owned(), "value".to_owned())]);
}

#[test]
fn events_without_a_schema_section_from_snapshot_to_delete() {
    let decoded = decode_lines(table(("APP", "TAB001"), &[("id", DataType::Int64)]), SCHEMALESS);
    assert_eq!(decoded.dead_letters, []);
    let changes = &decoded.changes[0];
    assert_eq!(ints(changes, 0), [Some(1), Some(2), Some(3), Some(4), Some(4), Some(4)]);
    let ops: Vec<&str> = changes.operations.iter().map(|op| op.letter()).collect();
    assert_eq!(ops, ["r", "r", "r", "c", "u", "d"]);
}

#[test]
fn base64_decimals_with_the_scale_of_the_schema_section() {
    let decoded = decode_lines(fees(), PRECISE);
    assert_eq!(decoded.dead_letters, []);
    let expected = [
        "56446",
        "INR",
        "2.00",
        "99999999999999.00",
        "0.0000",
        "A",
        "2020-10-28T00:00:00",
        "2020-10-28T00:00:00",
    ];
    // 0x2386f26fc0ff9c is 9 999 999 999 999 900.
    assert_eq!(shown(&decoded.changes[0].batch, 0, 8), expected);
    assert_eq!(decoded.changes[0].operations, [Operation::Update]);
}

#[test]
fn decimals_as_text_and_the_first_instant_of_1970() {
    let decoded = decode_lines(fees(), STRINGS);
    assert_eq!(decoded.dead_letters, []);
    let expected = ["111112", "NULL", "3.00", "0.00", "0.0000", "", "1970-01-01T00:00:00", "NULL"];
    assert_eq!(shown(&decoded.changes[0].batch, 0, 8), expected);
}

#[test]
fn the_unit_of_a_timestamp_is_remembered_from_the_schema_section() {
    let small = STRINGS.replace("\"CREATED_AT\":0", "\"CREATED_AT\":86400000");
    let mut decoder = Decoder::new(setup(fees()));
    let decoded = decoder.decode(&messages(&[&small]), &spools()).expect("registered");
    assert_eq!(decoded.dead_letters[0].error_type, ErrorType::SchemaMismatch);
    assert!(decoded.dead_letters[0].message.contains("schema section"));
    decoder.decode(&messages(&[PRECISE]), &spools()).expect("registered");
    let decoded = decoder.decode(&messages(&[&small]), &spools()).expect("registered");
    assert_eq!(micros(&decoded.changes[0], 6), [Some(86_400_000_000)]);
}

#[test]
fn a_new_schema_section_replaces_the_old_one() {
    let other = PRECISE.replace(
        r#"{"field":"CREATED_AT","name":"io.debezium.time.Timestamp""#,
        r#"{"field":"CREATED_AT","name":"io.debezium.time.MicroTimestamp""#,
    );
    let decoded = decode(fees(), &[PRECISE, &other, PRECISE]);
    let millis = Some(1_603_843_200_000_000);
    assert_eq!(micros(&decoded.changes[0], 6), [millis, Some(1_603_843_200_000), millis]);
}

#[test]
fn special_events_pass_or_say_why_not() {
    let decoded = decode_lines(orders(), SPECIAL);
    let passed = Passed {
        tombstones: 0,
        heartbeats: 1,
        transaction_markers: 2,
        schema_changes: 1,
        ..Passed::default()
    };
    assert_eq!(decoded.passed, passed);
    assert_eq!(decoded.dead_letters, []);
    let changes = &decoded.changes[0];
    assert_eq!(changes.truncations.len(), 1);
    assert_eq!(changes.operations, [Operation::Update, Operation::Delete]);
    assert_eq!(changes.unchanged, [Cell { row: 0, column: 5 }, Cell { row: 1, column: 5 }]);
    assert_eq!(changes.batch.column(5).null_count(), 2);
    assert_eq!(changes.batch.column(3).as_string::<i32>().value(0), "SHIPPED");
}

#[test]
fn special_events_pass_inside_a_schema_envelope_too() {
    let wrapped: Vec<String> = SPECIAL
        .lines()
        .map(|line| format!(r#"{{"schema":{{"type":"struct"}},"payload":{line}}}"#))
        .chain([r#"{"schema":null,"payload":null}"#.to_owned()])
        .collect();
    let decoded = decode(orders(), &wrapped);
    let passed = Passed {
        tombstones: 1,
        heartbeats: 1,
        transaction_markers: 2,
        schema_changes: 1,
        ..Passed::default()
    };
    assert_eq!(decoded.passed, passed);
    assert_eq!(decoded.changes[0].len(), 2);
}
