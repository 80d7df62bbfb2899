//! What bodies, lanes and keys come out of changes.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::{Value, json};

use super::*;
use crate::model::{PriorRow, ResultTable};

const EPOCH: Epoch = Epoch(7);

fn table(mode: ResultMode, rest: RestChannel) -> Arc<ResultTable> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("amount", DataType::Decimal128(38, 2), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        text("op"),
        text("event_id"),
        text("extra_fields"),
    ];
    Arc::new(ResultTable {
        name: "alerts".to_owned(),
        target: "/n".to_owned(),
        channel: Channel::Rest(rest),
        schema: Arc::new(Schema::new(fields)),
        mode,
        definition: String::new(),
    })
}

/// Rows `(id, operation, event)`, of which none appeared but the first.
fn changes(
    table: &Arc<ResultTable>,
    rows: &[(i64, &str, Option<&str>)],
    gone: &[i64],
) -> ResultChanges {
    let amount =
        Decimal128Array::from(vec![1_234_567_890_123_456_789_012_345_678_901_234_567; rows.len()]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(amount.with_precision_and_scale(38, 2).unwrap()),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000); rows.len()])),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>()),
        Arc::new(StringArray::from(vec![Some(r#"{"NOTE": "a\nb", "id": 0}"#); rows.len()])),
    ];
    let ids = Arc::new(Int64Array::from_iter_values(gone.iter().copied()));
    let key = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
    ResultChanges {
        table: Arc::clone(table),
        upserts: RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap(),
        held: (0..rows.len())
            .map(|row| if row == 0 { PriorRow::Nothing } else { PriorRow::Unknown })
            .collect(),
        deletes: RecordBatch::try_new(Arc::new(key), vec![ids]).unwrap(),
        is_new_definition: false,
    }
}

fn rendered(changes: &ResultChanges, epoch: Epoch) -> Vec<RenderedRequest> {
    let closed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
    let opened_at = closed_at - Duration::from_millis(45);
    let commit =
        EpochCommit { opened_at, closed_at, ..crate::sink::conformance::epoch(epoch.0).build() };
    render(changes, "sales", &commit).unwrap()
}

fn rest(sends: Sends, payload: Payload) -> RestChannel {
    RestChannel { order: vec![0], sends, payload, source_tables: vec!["SALES.ORDERS".to_owned()] }
}

fn keyed(sends: Sends) -> Arc<ResultTable> {
    table(ResultMode::Keyed { key: vec![0] }, rest(sends, Payload::Row))
}

fn body(row: &RenderedRequest) -> Value {
    serde_json::from_str(&row.body).unwrap()
}

#[test]
fn what_is_sent_follows_the_rule() {
    for (sends, expected) in [
        (Sends::Changes, vec![("deleted", 3), ("created", 1), ("updated", 2)]),
        (Sends::New, vec![("created", 1)]),
        (Sends::Once, vec![("created", 1)]),
    ] {
        let rows = rendered(&changes(&keyed(sends), &[(1, "", None), (2, "", None)], &[3]), EPOCH);
        let shown: Vec<_> =
            rows.iter().map(|row| (row.operation, body(row)["id"].as_i64().unwrap())).collect();
        assert_eq!(shown, expected);
    }
    let appended = table(ResultMode::Append, rest(Sends::Changes, Payload::Row));
    let rows = [(1, "c", None), (1, "u", None), (1, "d", None), (1, "r", None)];
    let rows = rendered(&changes(&appended, &rows, &[]), EPOCH);
    let operations: Vec<_> = rows.iter().map(|row| row.operation).collect();
    assert_eq!(operations, ["created", "updated", "deleted", "created"]);
    assert!(rows.iter().all(|row| row.lane == rows[0].lane), "one key is one lane");
}

#[test]
fn nothing_is_sent_for_a_new_definition_or_to_a_table() {
    let mut whole = changes(&keyed(Sends::Changes), &[(1, "", None)], &[]);
    whole.is_new_definition = true;
    assert_eq!(rendered(&whole, EPOCH), []);
    let mut other = changes(&keyed(Sends::Changes), &[(1, "", None)], &[]);
    other.table = Arc::new(ResultTable { channel: Channel::Table, ..(*other.table).clone() });
    assert_eq!(rendered(&other, EPOCH), []);
}

#[test]
fn a_row_has_all_columns_and_all_digits() {
    let rows = rendered(&changes(&keyed(Sends::New), &[(1, "c", None)], &[]), EPOCH);
    assert_eq!(
        rows[0].body,
        r#"{"id":1,"amount":12345678901234567890123456789012345.67,"at":"1970-01-01T00:00:01.500","op":"c","event_id":null,"extra_fields":"{\"NOTE\": \"a\\nb\", \"id\": 0}"}"#
    );
}

#[test]
fn an_event_has_its_type_its_id_and_the_fields_that_nobody_declared() {
    let payload = Payload::Event { entity: "ORDER".to_owned() };
    let events = table(ResultMode::Append, rest(Sends::Changes, payload));
    let rows = rendered(&changes(&events, &[(5, "u", Some("rmid1:x"))], &[]), EPOCH);
    let event = body(&rows[0]);
    assert_eq!(event["event_type"], "ORDER_UPDATED");
    assert_eq!(event["event_id"], "rmid1:x");
    assert_eq!(event["timestamp"], "1970-01-01T00:01:00.000Z");
    assert_eq!(event["data"]["NOTE"], "a\nb");
    assert_eq!(event["data"]["id"], 5, "a declared column goes first");
    assert!(event["data"].get("op").is_none() && event["data"].get("extra_fields").is_none());
    let metadata = json!({"pipeline": "sales", "result": "alerts", "epoch": 7, "operation": "updated",
        "source": crate::sink::conformance::QUEUE, "source_table": "SALES.ORDERS", "processing_time_ms": 45,
        "schema_version": "1.0"});
    assert_eq!(event["metadata"], metadata);
}

#[test]
fn a_notification_has_its_type_and_priority() {
    let payload = Payload::Notification { kind: "BIG".to_owned(), priority: "HIGH".to_owned() };
    let table = table(ResultMode::Keyed { key: vec![0] }, rest(Sends::New, payload));
    let rows = rendered(&changes(&table, &[(5, "", None)], &[]), EPOCH);
    let shown = body(&rows[0]);
    assert_eq!((&shown["notification_type"], &shown["priority"]), (&json!("BIG"), &json!("HIGH")));
    assert_eq!(shown["notification_id"], json!(rows[0].idempotency_key));
    assert_eq!(shown["payload"]["id"], 5);
}

#[test]
fn idempotency_keys_are_the_same_after_a_replay_and_differ_otherwise() {
    let key = |sends: Sends, event: Option<&str>, epoch: u64, id: i64| {
        let changes = changes(&keyed(sends), &[(id, "", event)], &[]);
        rendered(&changes, Epoch(epoch))[0].idempotency_key.clone()
    };
    let one = key(Sends::New, Some("e"), 1, 1);
    assert_eq!(one.len(), 32);
    assert_eq!(one, key(Sends::New, Some("e"), 2, 1), "the event decides, not the epoch");
    assert_ne!(one, key(Sends::New, Some("f"), 1, 1));
    assert_eq!(key(Sends::New, None, 1, 1), key(Sends::New, None, 1, 1));
    assert_ne!(key(Sends::New, None, 1, 1), key(Sends::New, None, 2, 1));
    assert_ne!(key(Sends::New, None, 1, 1), key(Sends::New, None, 1, 2));
    assert_eq!(key(Sends::Once, None, 1, 1), key(Sends::Once, Some("e"), 2, 1), "the key alone");

    let appended = table(ResultMode::Append, rest(Sends::Changes, Payload::Row));
    let rows =
        rendered(&changes(&appended, &[(1, "c", Some("e")), (2, "c", Some("e"))], &[]), EPOCH);
    assert_ne!(rows[0].idempotency_key, rows[1].idempotency_key, "two rows of one event");
}
