//! Every dialect from a publisher through the broker to rows, and where the table's name comes from.

use serde_json::{Value, json};
use tidemark_dev::stack::Settings;
use tokio::process::Command;

use crate::messages::interop::python;
use crate::shop::Shop;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/publish_messages.py");
const CONFIG: &str = "[decode]\ntopic = 'cdc/oracle/{schema}/{table}'\n";

const ELSEWHERE: &str = "cdc/oracle/everything";
const HERE: &str = "cdc/oracle/SALES/ORDERS";
const THERE: &str = "cdc/oracle/SALES/OTHERS";

fn row(id: i64, status: &str) -> Value {
    json!({"ORDER_ID": id, "STATUS": status, "TOTAL_AMOUNT": "12.50", "COUPON": "x"})
}

fn with(mut row: Value, fields: Value) -> Value {
    let (Value::Object(row_fields), Value::Object(fields)) = (&mut row, fields) else {
        unreachable!("both are objects");
    };
    row_fields.extend(fields);
    row
}

fn envelope(row: &Value, table: &str) -> Value {
    let source = json!({"schema": "SALES", "table": table, "ts_ms": 1_706_000_000_000_i64});
    json!({"before": null, "after": row, "source": source, "op": "c"})
}

pub(crate) fn message(topic: &str, payload: &Value, properties: Value) -> String {
    let payload = if payload.is_null() { String::new() } else { payload.to_string() };
    json!({"topic": topic, "payload": payload, "properties": properties}).to_string()
}

/// The properties of Solace's own connector.
pub(crate) fn header(operation: &str, more: Value) -> Value {
    with(json!({"cdc_operation": operation, "cdc_timestamp": "2024-01-23T08:53:20Z"}), more)
}

fn orders(operation: &str, more: Value) -> Value {
    header(operation, with(json!({"cdc_schema": "SALES", "cdc_table_name": "ORDERS"}), more))
}

pub(crate) async fn publish(shop: &Shop, messages: &[String]) {
    let path = shop.stack.folder().join("messages.ndjson");
    std::fs::write(&path, messages.join("\n") + "\n").expect("written");
    let mut command = Command::new(python());
    command.arg(SCRIPT).arg(shop.stack.broker_url()).arg(path).kill_on_drop(true);
    let output = command.output().await.expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Rows with `|` between the values.
pub(crate) async fn shown(shop: &Shop, sql: &str) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let rows = shop.query(sql).await;
    rows.iter().map(|row| row.iter().map(value).collect::<Vec<_>>().join("|")).collect()
}

async fn land(messages: &[String]) -> Shop {
    let shop =
        Shop::open_with(|settings| Settings { more_config: CONFIG.to_owned(), ..settings }).await;
    publish(&shop, messages).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(messages.len() as u64).await;
    shop.end(&mut processor).await;
    shop
}

/// The fields that a flattened row has of its envelope.
fn flat(op: &str) -> Value {
    json!({"__op": op, "__schema": "SALES", "__table": "ORDERS", "__source_ts_ms": 1_706_000_000_000_i64})
}

fn cloud_event(id: i64, op: &str, data: Value) -> Value {
    json!({
        "id": id.to_string(), "source": "/debezium/oracle/s", "specversion": "1.0",
        "type": "io.debezium.connector.oracle.DataChangeEvent", "iodebeziumop": op,
        "iodebeziumschema": "SALES", "iodebeziumtable": "ORDERS", "iodebeziumtsms": "1706000000000",
        "data": data,
    })
}

fn inserts() -> [String; 8] {
    let none = || json!({});
    let section = json!({"type": "struct", "fields": []});
    let wrapped = json!({"schema": section, "payload": envelope(&row(2, "section"), "ORDERS")});
    let flat_headers = with(flat("c"), json!({"__source_ts_ms": "1706000000000"}));
    let data = json!({"before": null, "after": row(5, "cloud")});
    // The schema of the body: without it, nobody knows the unit of 5.
    let date =
        json!({"field": "ORDER_DATE", "type": "int64", "name": "io.debezium.time.MicroTimestamp"});
    let body_schema = json!({"type": "struct", "fields": [date]}).to_string();
    let told = orders("insert", json!({"cdc_after_schema": body_schema}));
    [
        message(ELSEWHERE, &envelope(&row(1, "envelope"), "ORDERS"), none()),
        message(ELSEWHERE, &wrapped, none()),
        message(ELSEWHERE, &with(row(3, "flat"), flat("c")), none()),
        message(ELSEWHERE, &row(4, "flat headers"), flat_headers),
        message(ELSEWHERE, &cloud_event(5, "c", data), none()),
        message(ELSEWHERE, &with(row(6, "header"), json!({"ORDER_DATE": 5})), told),
        message(HERE, &row(7, "topic"), header("c", none())),
        message(HERE, &row(8, "row and topic"), none()),
    ]
}

fn changes_and_deletes() -> [String; 7] {
    let none = || json!({});
    let before = |row: Value| json!({"cdc_before": row.to_string()});
    let updated = json!({"before": {"ORDER_ID": 5}, "after": row(5, "cloud again")});
    let deleted = json!({"before": {"ORDER_ID": 5}, "after": null});
    let rewritten = with(flat("d"), json!({"__deleted": "true"}));
    let key = json!({"cdc_key": r#"{"ORDER_ID": 6}"#});
    [
        message(ELSEWHERE, &with(row(3, "flat again"), flat("u")), none()),
        message(ELSEWHERE, &cloud_event(6, "u", updated), none()),
        message(HERE, &row(70, "other key"), header("u", before(row(7, "topic")))),
        message(ELSEWHERE, &with(row(3, "flat again"), rewritten), none()),
        message(ELSEWHERE, &cloud_event(7, "d", deleted), none()),
        message(ELSEWHERE, &Value::Null, orders("delete", key)),
        message(HERE, &Value::Null, header("d", before(row(70, "other key")))),
    ]
}

#[tokio::test]
async fn a_row_of_each_dialect_is_inserted_changed_and_deleted() {
    let messages = [&inserts()[..], &changes_and_deletes()[..]].concat();
    let shop = land(&messages).await;
    assert_eq!(shown(&shop, "SELECT error_type, error_message FROM cdc_dlq").await, [""; 0]);
    let landed =
        "SELECT order_id, operation, status FROM cdc_orders ORDER BY change_seq, event_id DESC";
    let rows = shown(&shop, landed).await;
    assert_eq!(
        rows,
        [
            "1|c|envelope",
            "2|c|section",
            "3|c|flat",
            "4|c|flat headers",
            "5|c|cloud",
            "6|c|header",
            "7|c|topic",
            "8|u|row and topic",
            "3|u|flat again",
            "5|u|cloud again",
            "7|d|topic",
            "70|u|other key",
            "3|d|flat again",
            "5|d|NULL",
            "6|d|NULL",
            "70|d|other key",
        ]
    );
    let same = "SELECT DISTINCT total_amount, source_ts, extra_fields FROM cdc_orders \
                WHERE operation = 'c' ORDER BY source_ts";
    assert_eq!(
        shown(&shop, same).await,
        [r#"12.50|2024-01-23 08:53:20|{"COUPON": "x"}"#],
        "one row in all dialects"
    );
    let date = "SELECT order_date FROM cdc_orders WHERE order_id = 6 AND operation = 'c'";
    assert_eq!(shown(&shop, date).await, ["1970-01-01 00:00:00.000005"]);
    let current = "SELECT order_id FROM cdc_orders_current ORDER BY 1";
    assert_eq!(shown(&shop, current).await, ["1", "2", "4", "8"]);
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn the_table_is_named_by_the_envelope_else_by_properties_else_by_the_topic() {
    let nameless = |id: i64| {
        let mut envelope = envelope(&row(id, "x"), "");
        envelope["source"] = json!({"ts_ms": 1_706_000_000_000_i64});
        envelope
    };
    let names = |table: &str| json!({"cdc_schema": "SALES", "cdc_table_name": table});
    let messages = [
        message(THERE, &envelope(&row(1, "x"), "ORDERS"), names("OTHERS")),
        message(THERE, &nameless(2), names("ORDERS")),
        message(HERE, &nameless(3), json!({})),
        message(THERE, &row(4, "x"), orders("c", json!({}))),
        message(THERE, &row(5, "x"), header("c", json!({"cdc_table_name": "SALES.ORDERS"}))),
        // The one that counts is not declared.
        message(HERE, &envelope(&row(6, "x"), "OTHERS"), names("ORDERS")),
        message(HERE, &nameless(7), names("OTHERS")),
        message(THERE, &nameless(8), json!({})),
        // Nothing names one.
        message(ELSEWHERE, &nameless(9), json!({"key": "of a partition"})),
    ];
    let shop = land(&messages).await;
    let ids = "SELECT order_id FROM cdc_orders ORDER BY change_seq";
    assert_eq!(shown(&shop, ids).await, ["1", "2", "3", "4", "5"]);
    let letters = "SELECT payload->'after'->>'ORDER_ID', error_type, \
                   error_message LIKE '%SALES.OTHERS%', error_message LIKE '%decode.topic%', \
                   properties->>'key' FROM cdc_dlq ORDER BY 1";
    assert_eq!(
        shown(&shop, letters).await,
        [
            "6|UNKNOWN_TABLE|t|f|NULL",
            "7|UNKNOWN_TABLE|t|f|NULL",
            "8|UNKNOWN_TABLE|t|f|NULL",
            "9|UNKNOWN_ENVELOPE|f|t|of a partition",
        ]
    );
    shop.stack.stop().await.expect("the servers end");
}
