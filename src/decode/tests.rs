mod arrays;
mod control_messages;
mod dialects;
mod discovered_tables;
mod golden_gate;
mod properties;
mod samples;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimeUnit, TimestampMicrosecondType};

use super::*;
use crate::model::{
    Cell, Changelog, Column, ErrorType, Generations, LearnedColumns, Message, NewColumns, Offset,
    Operation, Receipt, SchemaChange, SchemaChangeKind, SourceTable, SystemColumn, Table,
    TableOptions, TableOrigin, Truncate,
};

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The first column is the key.
fn table(source: (&str, &str), columns: &[(&str, DataType)]) -> Table {
    let column = |(name, data_type): &(&str, DataType)| Column {
        name: (*name).to_owned(),
        data_type: data_type.clone(),
        nullable: *name != columns[0].0,
    };
    Table {
        name: source.1.to_lowercase(),
        source: SourceTable { schema: source.0.to_owned(), table: source.1.to_owned() },
        columns: columns.iter().map(column).collect(),
        key: vec![0],
        options: TableOptions::default(),
        origin: TableOrigin::Declared,
        learned: LearnedColumns::default(),
    }
}

fn orders() -> Table {
    let columns = [
        ("order_id", DataType::Int64),
        ("customer_id", DataType::Int64),
        ("order_date", TIMESTAMP),
        ("status", DataType::Utf8),
        ("total_amount", DataType::Decimal128(15, 2)),
        ("shipping_info", DataType::Utf8),
        ("created_at", TIMESTAMP),
        ("updated_at", TIMESTAMP),
    ];
    let mut orders = table(("SALES", "ORDERS"), &columns);
    orders.options.event_time = Some(2);
    orders
}

fn messages<P: AsRef<[u8]>>(payloads: &[P]) -> Vec<Message> {
    let message = |(id, payload): (usize, &P)| Message {
        offset: Offset::new(7, id as u64),
        receipt: Receipt { flow: 1, id: id as u64 },
        topic: "cdc/orders".to_owned(),
        payload: payload.as_ref().to_vec().into(),
        redelivered: false,
        properties: vec![("key".to_owned(), "value".to_owned())],
    };
    payloads.iter().enumerate().map(message).collect()
}

fn spools() -> Generations {
    Generations::of_spool(7)
}

fn setup(table: Table) -> DecoderSetup {
    DecoderSetup { tables: vec![Arc::new(table)], ..DecoderSetup::default() }
}

fn decode<P: AsRef<[u8]>>(table: Table, payloads: &[P]) -> Decoded {
    let mut decoder = Decoder::new(setup(table));
    decoder.decode(&messages(payloads), &spools()).expect("the spool is registered")
}

/// An event of SALES.ORDERS.
fn event(op: &str, before: &str, after: &str) -> String {
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"ts_ms":1706000000000,"schema":"SALES","table":"ORDERS"}},"op":"{op}","ts_ms":5}}"#
    )
}

fn refused(payload: &str) -> (ErrorType, String) {
    let mut decoded = decode(orders(), &[payload]);
    assert_eq!(decoded.changes.len(), 0, "{payload}");
    let letter = decoded.dead_letters.pop().expect("a dead letter");
    assert_eq!(letter.payload, payload.as_bytes());
    (letter.error_type, letter.message)
}

fn texts(changes: &Changelog, column: SystemColumn) -> Vec<Option<&str>> {
    let index = changes.table.system_column(column);
    changes.batch.column(index).as_string::<i32>().iter().collect()
}

fn micros(changes: &Changelog, column: usize) -> Vec<Option<i64>> {
    changes.batch.column(column).as_primitive::<TimestampMicrosecondType>().iter().collect()
}

fn ints(changes: &Changelog, column: usize) -> Vec<Option<i64>> {
    changes.batch.column(column).as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn a_row_has_its_values_and_where_it_came_from() {
    let after = r#"{"ORDER_ID":1,"customer_id":"7","ORDER_DATE":1706000000000,"STATUS":"NEW","TOTAL_AMOUNT":15.5}"#;
    let decoded = decode(orders(), &[event("c", "null", after)]);
    let changes = &decoded.changes[0];
    assert_eq!(changes.batch.schema(), changes.table.changelog_schema());
    assert_eq!((ints(changes, 0), ints(changes, 1)), (vec![Some(1)], vec![Some(7)]));
    assert_eq!(changes.batch.column(4).as_primitive::<Decimal128Type>().value(0), 1550);
    assert!(changes.batch.column(5).is_null(0) && changes.batch.column(7).is_null(0));
    assert_eq!(texts(changes, SystemColumn::Op), [Some("c")]);
    assert_eq!(texts(changes, SystemColumn::Topic), [Some("cdc/orders")]);
    assert_eq!(texts(changes, SystemColumn::ExtraFields), [None]);
    let offset = Offset::new(7, 0);
    assert_eq!(texts(changes, SystemColumn::EventId), [Some(&*offset.to_string())]);
    assert_eq!(changes.offsets, [offset]);
    assert_eq!(changes.positions, [spools().position(offset).expect("registered")]);
    assert_eq!(changes.operations, [Operation::Create]);
}

#[test]
fn the_placeholder_of_an_unchanged_lob_can_be_configured() {
    let after = r#"{"ORDER_ID":1,"STATUS":["keep"],"CUSTOMER_ID":5}"#;
    let config = DecodeConfig { unavailable_value: "keep".to_owned(), ..DecodeConfig::default() };
    let mut decoder = Decoder::new(DecoderSetup { config, ..setup(orders()) });
    let decoded = decoder.decode(&messages(&[event("u", "null", after)]), &spools());
    let changes = decoded.expect("the spool is registered").changes;
    assert_eq!(changes[0].unchanged, [Cell { row: 0, column: 3 }]);
    assert!(changes[0].batch.column(3).is_null(0));
}

#[test]
fn a_truncate_is_applied_or_a_dead_letter() {
    let truncate = event("t", "null", "null");
    let insert = event("c", "null", r#"{"ORDER_ID":1}"#);
    let decoded = decode(orders(), &[&insert, &truncate, &truncate]);
    assert_eq!(decoded.dead_letters, []);
    let offsets: Vec<Offset> = decoded.changes[0].truncations.iter().map(|t| t.offset).collect();
    assert_eq!(offsets, [Offset::new(7, 1), Offset::new(7, 2)]);
    assert_eq!(decoded.changes[0].truncations[0].source_ts, Some(1_706_000_000_000_000));
    assert_eq!(decoded.changes[0].len(), 1);

    let mut kept = orders();
    kept.options.truncate = Truncate::Dlq;
    let decoded = decode(kept, &[&insert, &truncate]);
    assert_eq!(decoded.dead_letters[0].error_type, ErrorType::UnsupportedOperation);
    assert!(decoded.dead_letters[0].message.contains("the option truncate"));
    assert_eq!(decoded.changes[0].truncations, []);
}

#[test]
fn event_time_is_the_declared_column_or_else_the_time_of_the_change() {
    let decoded = decode(
        orders(),
        &[
            event("c", "null", r#"{"ORDER_ID":1,"ORDER_DATE":"2024-01-20"}"#),
            event("c", "null", r#"{"ORDER_ID":2}"#),
            event("c", "null", r#"{"ORDER_ID":3}"#).replace("\"ts_ms\":17", "\"x\":17"),
            event("c", "null", r#"{"ORDER_ID":4}"#)
                .replace("\"schema\"", "\"ts_us\":1706000000000001,\"schema\""),
        ],
    );
    let changes = &decoded.changes[0];
    let source_ts = changes.table.system_column(SystemColumn::SourceTs);
    let event_time = changes.table.system_column(SystemColumn::EventTime);
    let change = Some(1_706_000_000_000_000);
    let finer = Some(1_706_000_000_000_001);
    assert_eq!(micros(changes, source_ts), [change, change, Some(5000), finer]);
    assert_eq!(
        micros(changes, event_time),
        [Some(1_705_708_800_000_000), change, Some(5000), finer]
    );
}

#[test]
fn a_key_change_deletes_the_old_row_first() {
    let before = r#"{"ORDER_ID":1,"STATUS":"OLD","X":1}"#;
    let after = r#"{"ORDER_ID":2,"STATUS":"NEW"}"#;
    let decoded = decode(orders(), &[event("u", before, after)]);
    let changes = &decoded.changes[0];
    assert_eq!(ints(changes, 0), [Some(1), Some(2)]);
    assert_eq!(changes.operations, [Operation::Delete, Operation::Update]);
    assert_eq!(changes.offsets[0], changes.offsets[1]);
    assert_eq!(texts(changes, SystemColumn::ExtraFields), [Some(r#"{"X":1}"#), None]);
    let id = changes.offsets[0].to_string();
    let old_id = format!("{id}#before");
    assert_eq!(texts(changes, SystemColumn::EventId), [Some(&*old_id), Some(&*id)]);
}

#[test]
fn the_same_key_in_another_spelling_is_no_key_change() {
    for before in [r#"{"STATUS":"OLD","ORDER_ID":"2"}"#, "{}", r#"{"ORDER_ID":null}"#, "null"] {
        let decoded = decode(orders(), &[event("u", before, r#"{"ORDER_ID":2,"STATUS":"N"}"#)]);
        assert_eq!(decoded.changes[0].operations, [Operation::Update], "{before}");
    }
    // The same first characters, but another number.
    let decoded = decode(orders(), &[event("u", r#"{"ORDER_ID":21}"#, r#"{"ORDER_ID":2}"#)]);
    assert_eq!(ints(&decoded.changes[0], 0), [Some(21), Some(2)]);
}

#[test]
fn half_of_an_old_key_is_refused_when_the_key_changed() {
    let mut two = orders();
    two.key = vec![0, 1];
    let after = r#"{"ORDER_ID":2,"CUSTOMER_ID":5}"#;
    let decoded = decode(two, &[event("u", r#"{"ORDER_ID":1}"#, after)]);
    assert_eq!(decoded.dead_letters[0].error_type, ErrorType::InvalidKey);
}

#[test]
fn undeclared_fields_are_kept_with_their_text() {
    let after = r#"{"ORDER_ID":1,"B\"1":1.50,"L":"__debezium_unavailable_value","C":{"d": null},"E":"x\u00e9"}"#;
    let decoded = decode(orders(), &[event("c", "null", after)]);
    let extra = texts(&decoded.changes[0], SystemColumn::ExtraFields);
    assert_eq!(extra, [Some(r#"{"B\"1":1.50,"C":{"d": null},"E":"x\u00e9"}"#)]);
}

#[test]
fn undeclared_fields_that_cannot_be_kept_cost_the_row() {
    let (kind, message) = refused(&event("c", "null", r#"{"ORDER_ID":1,"B":["\u0000"]}"#));
    assert_eq!(kind, ErrorType::SchemaMismatch);
    assert!(message.contains("undeclared field B"), "{message}");
    let large = format!(r#"{{"ORDER_ID":1,"B":"{}"}}"#, "x".repeat(1 << 20));
    assert!(refused(&event("c", "null", &large)).1.contains("declare the large ones"));
}

#[test]
fn of_two_fields_that_differ_in_case_the_declared_spelling_is_the_column() {
    for after in [r#"{"ORDER_ID":1,"order_id":2}"#, r#"{"order_id":2,"ORDER_ID":1}"#] {
        let decoded = decode(orders(), &[event("c", "null", after)]);
        assert_eq!(ints(&decoded.changes[0], 0), [Some(2)]);
        let extra = texts(&decoded.changes[0], SystemColumn::ExtraFields);
        assert_eq!(extra, [Some(r#"{"ORDER_ID":1}"#)]);
    }
}

#[test]
fn fields_may_come_in_any_order() {
    let payloads = [
        event("c", "null", r#"{"ORDER_ID":1,"CUSTOMER_ID":10}"#),
        event("c", "null", r#"{"CUSTOMER_ID":20,"ORDER_ID":2}"#),
        event("c", "null", r#"{"X":0,"ORDER_ID":3}"#),
        event("c", "null", r#"{"ORDER_ID":4,"CUSTOMER_ID":40}"#),
    ];
    let decoded = decode(orders(), &payloads);
    assert_eq!(ints(&decoded.changes[0], 0), [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(ints(&decoded.changes[0], 1), [Some(10), Some(20), None, Some(40)]);
}

#[test]
fn a_refused_row_leaves_its_neighbours_whole() {
    let payloads = [
        event("c", "null", r#"{"ORDER_ID":1,"STATUS":"A"}"#),
        event("c", "null", r#"{"ORDER_ID":2,"STATUS":"B","TOTAL_AMOUNT":"x"}"#),
        event("u", r#"{"ORDER_ID":9,"TOTAL_AMOUNT":"x"}"#, r#"{"ORDER_ID":3,"STATUS":"C"}"#),
        event("c", "null", r#"{"ORDER_ID":4,"STATUS":"D"}"#),
    ];
    let decoded = decode(orders(), &payloads);
    assert_eq!(ints(&decoded.changes[0], 0), [Some(1), Some(4)]);
    let dead: Vec<u64> = decoded.dead_letters.iter().map(|letter| letter.offset.id).collect();
    assert_eq!(dead, [1, 2]);
}

#[test]
fn a_wrong_value_is_named_with_its_column_and_cut() {
    let long = "x".repeat(1001);
    let after = format!(r#"{{"ORDER_ID":1,"TOTAL_AMOUNT":"{long}"}}"#);
    let (kind, message) = refused(&event("c", "null", &after));
    assert_eq!(kind, ErrorType::SchemaMismatch);
    let start = "table SALES.ORDERS: column total_amount DECIMAL(15,2): value \"xxx";
    assert!(message.starts_with(start), "{message}");
    assert!(message.ends_with("x… is not a number") && message.chars().count() < 200, "{message}");
    let (_, message) = refused(&format!("{{\"{long}\":1}}"));
    assert!(message.chars().count() <= 500);
}

#[test]
fn rows_without_an_exact_key_are_refused() {
    let payloads = [
        event("c", "null", r#"{"STATUS":"A"}"#),
        event("c", "null", r#"{"ORDER_ID":null}"#),
        event("c", "null", r#"{"ORDER_ID":1.5}"#),
        event("u", "null", r#"{"ORDER_ID":"__debezium_unavailable_value"}"#),
        event("d", "null", "null"),
        event("d", r#"{"STATUS":"A"}"#, "null"),
    ];
    for payload in payloads {
        assert_eq!(refused(&payload).0, ErrorType::InvalidKey, "{payload}");
    }
}

#[test]
fn not_null_columns_are_needed_except_in_deletes() {
    let mut strict = orders();
    strict.columns[3].nullable = false;
    let row = r#"{"ORDER_ID":1}"#;
    let decoded = decode(strict, &[event("c", "null", row), event("d", row, "null")]);
    assert_eq!(decoded.dead_letters[0].error_type, ErrorType::SchemaMismatch);
    assert_eq!(decoded.changes[0].operations, [Operation::Delete]);
}

#[test]
fn what_is_no_change_event_is_refused_by_kind() {
    let source = r#""source":{"schema":"SALES","table":"ORDERS"}"#;
    let payloads = [
        ("{", ErrorType::MalformedJson),
        ("[1,", ErrorType::MalformedJson),
        ("1 2", ErrorType::MalformedJson),
        (" ", ErrorType::MalformedJson),
        ("[]", ErrorType::UnknownEnvelope),
        ("\"text\"", ErrorType::UnknownEnvelope),
        ("{}", ErrorType::UnknownEnvelope),
        (r#"{"ts_ms":1,"other":1}"#, ErrorType::UnknownEnvelope),
        (r#"{"status":"MIDDLE"}"#, ErrorType::UnknownEnvelope),
        (r#"{"payload":{"payload":{}}}"#, ErrorType::UnknownEnvelope),
        (r#"{"op":"c","after":{}}"#, ErrorType::UnknownEnvelope),
        (r#"{"op":"c","source":{"schema":"SALES"}}"#, ErrorType::UnknownEnvelope),
        (r#"{"op":"c","source":["SALES","ORDERS"]}"#, ErrorType::UnknownEnvelope),
        (&format!(r#"{{"op":"x",{source}}}"#), ErrorType::UnknownEnvelope),
        (&format!(r#"{{"op":"u",{source}}}"#), ErrorType::UnknownEnvelope),
        (&format!(r#"{{"op":"c","after":[1],{source}}}"#), ErrorType::UnknownEnvelope),
        (&format!(r#"{{"op":"m",{source}}}"#), ErrorType::UnsupportedOperation),
        (
            &format!(r#"{{"schema":[],"payload":{{"op":"c",{source}}}}}"#),
            ErrorType::UnknownEnvelope,
        ),
    ];
    for (payload, kind) in payloads {
        assert_eq!(refused(payload).0, kind, "{payload}");
    }
}

#[test]
fn deep_nesting_is_no_stack_overflow() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let (kind, _) = refused(&event("c", "null", &format!(r#"{{"ORDER_ID":{deep}}}"#)));
    assert_eq!(kind, ErrorType::InvalidKey);
    let section = format!("{}{}", r#"{"fields":["#.repeat(10_000), "]}".repeat(10_000));
    let payload =
        format!(r#"{{"schema":{section},"payload":{}}}"#, event("c", "null", r#"{"ORDER_ID":1}"#));
    assert_eq!(refused(&payload).0, ErrorType::UnknownEnvelope);
}

#[test]
fn a_message_of_an_unregistered_spool_is_an_error_of_the_epoch() {
    let mut decoder = Decoder::new(DecoderSetup::default());
    let result = decoder.decode(&messages(&[""]), &Generations::default());
    assert!(matches!(result, Err(DecodeError::Position(_))));
}

#[test]
fn an_epoch_that_no_batch_can_hold_is_an_error_before_any_work() {
    let mut large = messages(&[vec![b' '; 1 << 20]]);
    large.resize(1100, large[0].clone());
    let result = Decoder::new(DecoderSetup::default()).decode(&large, &spools());
    assert!(matches!(result, Err(DecodeError::EpochTooLarge { bytes }) if bytes > 1 << 31));
}

/// Column, kind and type of what was learned.
fn learned(decoded: &Decoded) -> Vec<String> {
    let change = |c: &SchemaChange| format!("{} {} {}", c.column, c.kind.as_str(), c.seen);
    decoded.schema_changes.iter().map(change).collect()
}

const WHOLE: &str = r#""ORDER_ID":1,"CUSTOMER_ID":1,"ORDER_DATE":0,"STATUS":"A","TOTAL_AMOUNT":1,"SHIPPING_INFO":"","CREATED_AT":0"#;

#[test]
fn a_column_is_learned_once_and_again_when_it_widens() {
    let row = |more: &str| event("c", "null", &format!("{{{WHOLE}{more}}}"));
    let updated = r#","UPDATED_AT":0"#;
    let mut decoder = Decoder::new(setup(orders()));
    let payloads = [
        row(&format!(r#"{updated},"N":null"#)),
        row(&format!(r#"{updated},"N":1"#)),
        row(r#","N":1.5,"L":"__debezium_unavailable_value""#),
        row(&format!(r#"{updated},"N":2,"n":true"#)),
        event("d", r#"{"ORDER_ID":1}"#, "null"),
    ];
    let decoded = decoder.decode(&messages(&payloads), &spools()).unwrap();
    let expected = [
        "N added null",
        "N widened integer",
        "N widened number",
        "updated_at missing null",
        "n added boolean",
    ];
    assert_eq!(learned(&decoded), expected);
    assert_eq!(decoded.schema_changes[2].offset, Offset::new(7, 2));
    assert_eq!(learned(&decoder.decode(&messages(&payloads), &spools()).unwrap()), [""; 0]);

    let mut next = Decoder::new(setup(orders()));
    next.remember(&decoded.schema_changes);
    let decoded = next.decode(&messages(&[row(r#","N":"x""#)]), &spools()).unwrap();
    assert_eq!(learned(&decoded), ["N widened json"]);
}

#[test]
fn schema_change_messages_announce_columns_and_name_renames() {
    let message = |ddl: &str, columns: &str| {
        format!(
            r#"{{"source":{{"schema":"SALES"}},"databaseName":"ORCL","ddl":"{ddl}","tableChanges":[{{"type":"ALTER","id":"\"ORCL\".\"SALES\".\"ORDERS\"","table":{columns}}}]}}"#
        )
    };
    let columns = r#"{"columns":[{"name":"ORDER_ID","typeName":"NUMBER","length":10,"scale":0},{"name":"CHANNEL","typeName":"VARCHAR2","length":9}]}"#;
    let rename = message("ALTER TABLE ORDERS RENAME COLUMN STATUS TO STATE", "null");
    let other = message("ALTER TABLE SHOP.OTHERS RENAME COLUMN A TO B", "null");
    let payloads = [message("ALTER TABLE ORDERS ADD CHANNEL VARCHAR2(9)", columns), rename, other];
    let mut decoder = Decoder::new(setup(orders()));
    let decoded = decoder.decode(&messages(&payloads), &spools()).unwrap();
    let expected = ["CHANNEL added varchar", "STATUS -> STATE renamed null", "STATE added null"];
    assert_eq!(learned(&decoded), expected);
    assert_eq!((decoded.passed.schema_changes, decoded.dead_letters.len()), (3, 0));
    // A repeated message says nothing new about columns; a rename is told as often as the source does.
    let again = decoder.decode(&messages(&payloads), &spools()).unwrap();
    assert_eq!(learned(&again), ["STATUS -> STATE renamed null"]);
}

#[test]
fn too_many_columns_are_refused_and_not_learned() {
    let limits = Limits {
        max_undeclared_columns: std::num::NonZeroUsize::new(3).unwrap(),
        ..Limits::default()
    };
    let mut decoder = Decoder::new(DecoderSetup { limits, ..setup(orders()) });
    let row = |more: &str| event("c", "null", &format!(r#"{{{WHOLE},"UPDATED_AT":0{more}}}"#));
    let payloads = [
        row(r#","A":1,"B":1"#),
        row(r#","C":1,"D":1"#),
        row(r#","C":1"#),
        row(r#","A":2,"B":2,"C":2"#),
        row(r#","D":1"#),
    ];
    let decoded = decoder.decode(&messages(&payloads), &spools()).unwrap();
    assert_eq!(learned(&decoded), ["A added integer", "B added integer", "C added integer"]);
    let dead: Vec<u64> = decoded.dead_letters.iter().map(|letter| letter.offset.id).collect();
    assert_eq!(dead, [1, 4]);
    assert_eq!(decoded.dead_letters[0].error_type, ErrorType::TooManyColumns);
}

#[test]
fn a_strict_table_refuses_new_columns_and_still_tells_of_them() {
    let mut strict = orders();
    strict.options.new_columns = NewColumns::Strict;
    let rows = [r#"{"ORDER_ID":1,"NEW":1}"#, r#"{"ORDER_ID":2}"#];
    let decoded = decode(strict, &rows.map(|row| event("c", "null", row)));
    assert_eq!(decoded.dead_letters[0].error_type, ErrorType::SchemaMismatch);
    assert_eq!(ints(&decoded.changes[0], 0), [Some(2)]);
    assert_eq!(learned(&decoded)[0], "NEW added integer");
}
