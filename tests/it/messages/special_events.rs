//! What is no plain change of a row, through the whole processor: LOBs that did not change, truncates, heartbeats,
//! transaction markers and schema-change messages.

use serde_json::{Value, json};
use tidemark_dev::stack::Settings;

use crate::end_to_end::get;
use crate::messages::dialects::{message, publish, shown};
use crate::shop::{Shop, copied_sql};

const TOPIC: &str = "cdc/oracle/everything";
const MARKER: &str = "__debezium_unavailable_value";
/// The same in base64, for bytes.
const OF_BYTES: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";

const DOCS: &str = "CREATE TABLE docs (id BIGINT PRIMARY KEY, title VARCHAR, body VARCHAR, bytes BYTEA, tags VARCHAR) \
    WITH (source = 'S.DOCS', ttl = 'none', encodings = 'bytes base64')";
const KEPT: &str = "CREATE TABLE kept (id BIGINT PRIMARY KEY, title VARCHAR) \
    WITH (source = 'S.KEPT', ttl = 'none', truncate = 'dlq')";
const LANDING: &str = "operation TEXT NOT NULL, source_ts TIMESTAMP, extra_fields JSONB, event_id TEXT NOT NULL UNIQUE, \
    change_seq BIGINT NOT NULL, unavailable_columns JSONB";
const BODIES: &str =
    "-- writes: postgres bodies\n-- key: id\nSELECT id, title, body, bytes, tags FROM docs";

fn change(table: &str, op: &str, before: Value, after: Value) -> String {
    let source = json!({"schema": "S", "table": table, "ts_ms": 1_706_000_000_000_i64});
    message(
        TOPIC,
        &json!({"before": before, "after": after, "source": source, "op": op}),
        json!({}),
    )
}

fn row(id: i64, title: &str, large: [Value; 3]) -> Value {
    let [body, bytes, tags] = large;
    json!({"ID": id, "TITLE": title, "BODY": body, "BYTES": bytes, "TAGS": tags})
}

/// A row whose large values did not change, in the forms that their types have.
fn unchanged(id: i64, title: &str) -> Value {
    row(id, title, [json!(MARKER), json!(OF_BYTES), json!([MARKER])])
}

fn document(op: &str, after: Value) -> String {
    change("DOCS", op, Value::Null, after)
}

async fn opened(folder: &std::path::Path) -> Shop {
    let sql = copied_sql(folder);
    let docs = format!(
        "CREATE TABLE cdc_docs (id BIGINT, title TEXT, body TEXT, bytes BYTEA, tags TEXT, {LANDING});"
    );
    let kept = format!("CREATE TABLE cdc_kept (id BIGINT, title TEXT, {LANDING});");
    for (name, text) in [
        ("tables/docs.sql", DOCS),
        ("tables/kept.sql", KEPT),
        ("transforms/bodies.sql", BODIES),
        ("ods/90_docs.sql", &format!("{docs}\n{kept}")),
    ] {
        std::fs::write(sql.join(name), text).expect("a file");
    }
    Shop::open_with(|settings| Settings { sql, ..settings }).await
}

async fn check(shop: &Shop, expected: &[(&str, &str)]) {
    for (sql, expected) in expected {
        let rows = shown(shop, sql).await.join(", ");
        assert_eq!(rows, *expected, "{sql}\n{}", shop.log_tail("run"));
    }
}

const KEPT_VALUES: &str = "SELECT id, title, body, bytes, tags FROM bodies ORDER BY id";
const LANDED: &str =
    "SELECT title, body, bytes, tags, unavailable_columns FROM cdc_docs ORDER BY change_seq";
const MARKERS: &str = "SELECT count(*) FROM (SELECT to_jsonb(d)::text AS row FROM cdc_docs d \
    UNION ALL SELECT to_jsonb(b)::text FROM bodies b) r WHERE row LIKE '%debezium_unavail%' OR row LIKE '%X19kZWJl%'";

#[tokio::test]
async fn a_lob_that_did_not_change_keeps_its_value_and_its_placeholder_is_never_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = opened(folder.path()).await;
    // In one batch with the change before it, in the next one, and after a restart.
    let first = row(1, "a", [json!("long"), json!("AAEC"), json!("t")]);
    publish(&shop, &[document("c", first), document("u", unchanged(1, "b"))]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(2).await;
    check(&shop, &[(KEPT_VALUES, r"1|b|long|\x000102|t")]).await;
    publish(&shop, &[document("u", unchanged(1, "c"))]).await;
    shop.wait_for(3).await;
    check(&shop, &[(KEPT_VALUES, r"1|c|long|\x000102|t")]).await;
    let (_, metrics) = get(&shop, "/metrics").await.expect("metrics");
    let line = "cdc_unavailable_values_total{table=\"docs\"} 6";
    assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    shop.end(&mut processor).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let partly = row(1, "d", [json!("new"), json!(OF_BYTES), json!([MARKER])]);
    publish(&shop, &[document("u", partly), document("u", unchanged(1, "e"))]).await;
    shop.wait_for(5).await;
    let names = r#"["body", "bytes", "tags"]"#;
    let landed = format!(
        "a|long|\\x000102|t|NULL, b|NULL|NULL|NULL|{names}, c|NULL|NULL|NULL|{names}, \
         d|new|NULL|NULL|[\"bytes\", \"tags\"], e|NULL|NULL|NULL|{names}"
    );
    check(&shop, &[(KEPT_VALUES, r"1|e|new|\x000102|t"), (LANDED, &landed), (MARKERS, "0")]).await;
    check(&shop, &[("SELECT count(*) FROM cdc_dlq", "0")]).await;
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn truncates_go_by_their_policy_and_what_is_no_change_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = opened(folder.path()).await;
    let document = |id| document("c", row(id, "a", [json!("b"), Value::Null, Value::Null]));
    let kept = change("KEPT", "c", Value::Null, json!({"ID": 1, "TITLE": "a"}));
    let truncate = |table| change(table, "t", Value::Null, Value::Null);
    let marker = |status| json!({"status": status, "id": "1", "ts_ms": 1_706_000_603_000_i64, "event_count": null, "data_collections": null});
    let announced = json!({"source": {"schema": "S", "table": "DOCS"}, "ts_ms": 1, "databaseName": "ORCL", "schemaName": "S",
        "ddl": "COMMENT ON TABLE DOCS IS 'x'", "tableChanges": []});
    let mut messages = vec![document(1), document(2), kept, truncate("DOCS"), truncate("KEPT")];
    let others =
        [json!({"ts_ms": 1_706_000_602_000_i64}), marker("BEGIN"), marker("END"), announced];
    messages.extend(others.iter().map(|payload| message(TOPIC, payload, json!({}))));
    messages.push(document(3));
    publish(&shop, &messages).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(10).await;
    let (_, metrics) = get(&shop, "/metrics").await.expect("metrics");
    for line in [
        "cdc_passed_messages_total{kind=\"heartbeat\"} 1",
        "cdc_passed_messages_total{kind=\"transaction_marker\"} 2",
        "cdc_passed_messages_total{kind=\"schema_change\"} 1",
        "cdc_truncates_total{table=\"docs\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let expected = [
        ("SELECT id, title, body FROM bodies ORDER BY id", "3|a|b"),
        (
            "SELECT id, operation FROM (SELECT DISTINCT ON (id) * FROM cdc_docs ORDER BY id, change_seq DESC) n ORDER BY id",
            "1|d, 2|d, 3|c",
        ),
        ("SELECT id, operation FROM cdc_kept", "1|c"),
        ("SELECT source_table FROM cdc_dlq", "S.KEPT"),
    ];
    check(&shop, &expected).await;
    // Nobody brings the rows back.
    shop.end(&mut processor).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, &[document(4)]).await;
    shop.wait_for(11).await;
    check(&shop, &[("SELECT id FROM bodies ORDER BY id", "3, 4")]).await;
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
