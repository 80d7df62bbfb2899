//! S8: tables that no file declares appear on the queue, under each of the three policies.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidemark_dev::stack::Settings;

use crate::dead_letters::dlq::dlq;
use crate::end_to_end::get;
use crate::messages::dialects::{header, message, publish, shown};
use crate::operations::doctor::examined;
use crate::shop::{Shop, copied_sql, pause};

const REGISTER: &str =
    "[decode]\nunknown_tables = 'register'\n\n[limits]\nmax_registered_tables = 4\n";
const TOPIC: &str = "cdc/oracle/everything";
const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// Reads two tables that come later, and columns of them whose types nobody names.
const OPEN: &str = "-- writes: postgres open_invoices\n-- key: invoice_id\n\
    SELECT i.invoice_id, i.amount, i.lines, s.depot FROM invoices i \
    LEFT JOIN shipments s ON CAST(s.invoice_id AS BIGINT) = i.invoice_id WHERE i.status = 'OPEN'\n";
const OPEN_ROWS: &str = "SELECT string_agg(concat_ws(' ', invoice_id, amount, lines, depot), ', ' \
    ORDER BY invoice_id) FROM open_invoices";

fn change(table: &str, op: &str, before: Value, after: Value) -> Value {
    let source = json!({"schema": "SALES", "table": table, "ts_ms": 1_706_000_000_000_i64});
    json!({"before": before, "after": after, "source": source, "op": op})
}

/// An invoice with its schema section: of amount 12.50, which is BOI= in base64.
fn invoice(op: &str, id: i64, status: &str) -> String {
    let fields = json!([
        {"field": "INVOICE_ID", "type": "int64"},
        {"field": "AMOUNT", "type": "bytes", "name": DECIMAL, "parameters": {"scale": "2"}},
        {"field": "DUE", "type": "int64", "name": "io.debezium.time.Timestamp"},
        {"field": "STATUS", "type": "string"},
        {"field": "LINES", "type": "bytes"},
    ]);
    let row = json!({"INVOICE_ID": id, "AMOUNT": "BOI=", "DUE": 1_706_000_000_000_i64, "STATUS": status,
        "LINES": "AAEC"});
    let schema = json!({"type": "struct", "fields": [{"field": "after", "type": "struct", "fields": fields}]});
    let payload = match op {
        "d" => change("INVOICES", op, row, Value::Null),
        _ => change("INVOICES", op, Value::Null, row),
    };
    message(TOPIC, &json!({"schema": schema, "payload": payload}), json!({}))
}

fn announced() -> String {
    let table = json!({"columns": [], "primaryKeyColumnNames": ["INVOICE_ID"]});
    let change = json!({"type": "CREATE", "id": "\"ORCL\".\"SALES\".\"INVOICES\"", "table": table});
    let said = json!({"source": {"schema": "SALES"}, "ddl": "CREATE TABLE INVOICES", "tableChanges": [change]});
    message(TOPIC, &said, json!({}))
}

fn shipment(number: i64, invoice: i64) -> String {
    let names = json!({"cdc_schema": "SALES", "cdc_table_name": "SHIPMENTS",
        "cdc_key": json!({"SHIPMENT_NO": number}).to_string()});
    let row = json!({"SHIPMENT_NO": number, "INVOICE_ID": invoice, "DEPOT": "north"});
    message(TOPIC, &row, header("insert", names))
}

fn plain(table: &str, row: Value) -> String {
    message(TOPIC, &change(table, "c", Value::Null, row), json!({}))
}

fn order(id: i64) -> String {
    plain("ORDERS", json!({"ORDER_ID": id, "STATUS": "NEW", "TOTAL_AMOUNT": "1.00"}))
}

async fn opened(more_config: &str) -> (Shop, tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let settings = |settings| Settings {
        sql: sql.clone(),
        more_config: more_config.to_owned(),
        max_messages: 5,
        ..settings
    };
    let shop = Shop::open_with(settings).await;
    (shop, folder, sql)
}

async fn one(shop: &Shop, sql: &str) -> String {
    shown(shop, sql).await.join("\n")
}

fn log(shop: &Shop) -> String {
    std::fs::read_to_string(shop.stack.folder().join("run.log")).expect("a log")
}

fn write(sql: &Path, file: &str, text: &str) {
    std::fs::write(sql.join(file), text).expect("a file");
}

/// The verdicts of the doctor on tables that are waited for.
async fn said_of_tables(shop: &Shop) -> Vec<String> {
    let (_, found) = examined(shop, "tidemark.toml").await;
    let about = found.iter().filter(|finding| finding["what"].to_string().contains("needs table"));
    about.map(|finding| finding["verdict"].as_str().expect("text").to_owned()).collect()
}

const COLUMNS: &str = "SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) \
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name = ";

/// What PostgreSQL shows.
async fn check(shop: &Shop, expected: &[(&str, &str)]) {
    for (sql, expected) in expected {
        assert_eq!(one(shop, sql).await, *expected, "{sql}\n{}", shop.log_tail("run"));
    }
}

/// The first messages of three tables among orders, in batches of five.
async fn tables_appear(shop: &Shop) -> u64 {
    let mut messages = vec![announced(), order(1), invoice("c", 1, "OPEN"), shipment(7, 1)];
    messages.extend([plain("VISITS", json!({"PAGE": "a"})), order(2), invoice("c", 2, "OPEN")]);
    messages.extend([plain("VISITS", json!({"PAGE": "a"})), invoice("u", 2, "PAID"), order(3)]);
    messages.extend([invoice("c", 3, "OPEN"), invoice("d", 3, "OPEN")]);
    publish(shop, &messages).await;
    shop.wait_for(messages.len() as u64).await;
    let columns = one(shop, &format!("{COLUMNS}'cdc_invoices'")).await;
    let expected = "invoice_id bigint, amount numeric, due timestamp without time zone, status text, \
        operation text, ";
    assert!(columns.starts_with(expected), "{columns}");
    check(shop, &[
        ("SELECT count(*) FROM cdc_dlq", "0"),
        ("SELECT count(*) FROM cdc_orders", "3"),
        (
            "SELECT string_agg(concat_ws(' ', invoice_id, operation, amount, status, lines #>> '{}'), ', ' \
             ORDER BY change_seq) FROM cdc_invoices",
            "1 c 12.50 OPEN AAEC, 2 c 12.50 OPEN AAEC, 2 u 12.50 PAID AAEC, 3 c 12.50 OPEN AAEC, 3 d 12.50 OPEN AAEC",
        ),
        (
            "SELECT shipment_no, depot, invoice_id, extra_fields FROM cdc_shipments",
            "7|\"north\"|1|NULL",
        ),
        ("SELECT count(DISTINCT change_id), bool_and(change_id = event_id) FROM cdc_visits", "2|t"),
        (
            "SELECT string_agg(column_name || ' of ' || source_table, ', ' ORDER BY column_name) \
             FROM tidemark_schema_changes WHERE change = 'registered'",
            "invoices of INVOICES, shipments of SHIPMENTS, visits of VISITS",
        ),
    ]).await;
    messages.len() as u64
}

#[tokio::test]
async fn an_unknown_table_is_registered_landed_and_read_by_the_transform_that_waits_for_it() {
    let (shop, _folder, sql) = opened(REGISTER).await;
    write(&sql, "transforms/open_invoices.sql", OPEN);
    // Its name is taken by a table that is not ours.
    shop.query("CREATE TABLE cdc_taken (mine text)").await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    while get(&shop, "/ready").await.is_none_or(|(_, ready)| !ready.contains("needs table")) {
        pause().await;
    }
    assert_eq!(said_of_tables(&shop).await, ["unknown"]);
    let published = tables_appear(&shop).await;
    check(&shop, &[(OPEN_ROWS, "1 12.50 AAEC north")]).await;
    assert_eq!(said_of_tables(&shop).await, Vec::<String>::new());
    assert!(log(&shop).contains("alert=\"schema_change\""), "{}", shop.log_tail("run"));
    let published = tables_are_refused(&shop, published).await;

    // A restart knows all of it.
    shop.end(&mut processor).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let more = [shipment(8, 4), invoice("u", 1, "PAID")];
    publish(&shop, &more).await;
    shop.wait_for(published + 2).await;
    check(&shop, &[(OPEN_ROWS, "4 12.50 AAEC north")]).await;
    a_file_wins(&shop, &sql, published + 2).await;
    shop.end(&mut processor).await;
    let file = shop.stack.checkpoints().join("schema/sales.parquet");
    assert!(file.is_file(), "{} is not there", file.display());
    shop.stack.stop().await.expect("the servers end");
}

/// A table that can't land, one above the limit, and the others go on.
async fn tables_are_refused(shop: &Shop, published: u64) -> u64 {
    let rest = [
        plain("TAKEN", json!({"A": 1})),
        plain("TOO_MANY", json!({"A": 1})),
        order(4),
        invoice("c", 4, "OPEN"),
    ];
    publish(shop, &rest).await;
    let published = published + rest.len() as u64;
    shop.wait_for(published).await;
    let letters = "SELECT string_agg(source_table || ' ' || error_type, ', ' ORDER BY source_table) FROM cdc_dlq";
    check(
        shop,
        &[
            (letters, "SALES.TAKEN UNKNOWN_TABLE, SALES.TOO_MANY TOO_MANY_TABLES"),
            ("SELECT count(*) FROM cdc_dlq WHERE error_message LIKE '%cdc_taken%'", "1"),
            ("SELECT mine FROM cdc_taken", ""),
            (OPEN_ROWS, "1 12.50 AAEC north, 4 12.50 AAEC"),
        ],
    )
    .await;
    assert!(log(shop).contains("alert=\"registered_table\""), "{}", shop.log_tail("run"));
    published
}

/// Somebody declares a registered table, with other types.
async fn a_file_wins(shop: &Shop, sql: &Path, published: u64) {
    shop.query("ALTER TABLE cdc_shipments ALTER depot TYPE text USING depot #>> '{}'").await;
    let declared = "CREATE TABLE shipments (shipment_no BIGINT PRIMARY KEY, depot VARCHAR) \
        WITH (source = 'SALES.SHIPMENTS')";
    shop.query("ALTER TABLE cdc_shipments ALTER shipment_no TYPE bigint USING shipment_no::bigint")
        .await;
    write(sql, "tables/shipments.sql", declared);
    while !log(shop).contains("taking them over") {
        pause().await;
    }
    publish(shop, &[shipment(9, 9)]).await;
    shop.wait_for(published + 1).await;
    check(
        shop,
        &[
            (
                "SELECT depot, invoice_id, extra_fields FROM cdc_shipments WHERE shipment_no = 9",
                "north|9|NULL",
            ),
            ("SELECT count(*) FROM tidemark_schema_changes WHERE change = 'registered'", "4"),
        ],
    )
    .await;
}

#[tokio::test]
async fn dead_letters_of_an_unknown_table_come_back_once_it_may_be_registered() {
    let (shop, _folder, _sql) = opened("").await;
    let messages =
        [plain("VISITS", json!({"PAGE": "a"})), order(1), plain("VISITS", json!({"PAGE": "b"}))];
    publish(&shop, &messages).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(3).await;
    shop.end(&mut processor).await;
    check(&shop, &[("SELECT count(*) FROM cdc_dlq WHERE error_type = 'UNKNOWN_TABLE'", "2")]).await;

    let place = shop.stack.folder().join("tidemark.toml");
    let config = std::fs::read_to_string(&place).expect("a configuration");
    std::fs::write(&place, config + "\n" + REGISTER).expect("written");
    let mut processor = shop.stack.processor(None).expect("a processor");
    let output = dlq(&shop, &["replay", "--all"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    check(
        &shop,
        &[
            ("SELECT string_agg(page #>> '{}', ',' ORDER BY change_seq) FROM cdc_visits", "a,b"),
            ("SELECT count(*) FROM cdc_dlq WHERE status = 'replayed'", "2"),
        ],
    )
    .await;
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn an_unknown_table_may_be_ignored() {
    let (shop, _folder, _sql) = opened("[decode]\nunknown_tables = 'ignore'\n").await;
    let mut messages: Vec<String> = (0..9).map(|at| plain("VISITS", json!({"PAGE": at}))).collect();
    messages.push(order(1));
    publish(&shop, &messages).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(10).await;
    let (_, metrics) = get(&shop, "/metrics").await.expect("metrics");
    let line = "cdc_passed_messages_total{kind=\"unknown_table\"} 9";
    assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    let told = log(&shop).lines().filter(|line| line.contains("are ignored")).count();
    assert_eq!(told, 1);
    check(
        &shop,
        &[
            ("SELECT count(*) FROM cdc_dlq", "0"),
            ("SELECT count(*) FROM cdc_orders", "1"),
            ("SELECT count(*) FROM tidemark_schema_changes WHERE source_table = 'VISITS'", "0"),
        ],
    )
    .await;
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
