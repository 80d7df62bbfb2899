//! A column that no file declares gets another type while a transform reads it: the target of this one no longer
//! fits, it waits, and the others run.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemark_dev::stack::Settings;

use crate::end_to_end::get;
use crate::messages::dialects::{message, publish, shown};
use crate::operations::doctor::examined;
use crate::shop::{Shop, copied_sql, pause};

const TOPIC: &str = "cdc/oracle/everything";
const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// Without a CAST, so that the column has the type that the source names.
const PLAIN: &str = "-- writes: postgres plain\n-- key: customer_id\n\
    SELECT customer_id, points FROM customers WHERE points IS NOT NULL\n";
const COUNTED: &str = "-- writes: postgres counted\n-- key: points\n\
    SELECT points, COUNT(*) AS customers FROM plain GROUP BY points\n";
const EDITED: &str = "-- writes: postgres counted\n-- key: points\n\
    SELECT CAST(length(points) AS BIGINT) AS points, COUNT(*) AS customers FROM plain GROUP BY 1\n";
const SUMMED: &str = "-- writes: postgres summed\n-- key: has_points\n\
    SELECT points IS NOT NULL AS has_points, SUM(points) AS points FROM plain GROUP BY 1\n";
const NAMED: &str = "-- writes: postgres named\n-- key: customer_id\n\
    SELECT p.customer_id, c.name FROM plain p JOIN customers c USING (customer_id)\n";
const TEXTS: &str = "-- writes: postgres texts\n-- key: customer_id\n\
    SELECT customer_id, CAST(points AS VARCHAR) AS points FROM customers WHERE points IS NOT NULL\n";

/// A customer whose schema section says what a type its points are of.
fn customer(id: i64, points: Value) -> String {
    let points_field = match &points {
        Value::Number(_) => json!({"field": "POINTS", "type": "int64"}),
        Value::String(text) if text.ends_with('=') => {
            json!({"field": "POINTS", "type": "bytes", "name": DECIMAL, "parameters": {"scale": "2"}})
        }
        _ => json!({"field": "POINTS", "type": "string"}),
    };
    let fields = json!([{"field": "CUSTOMER_ID", "type": "int64"}, points_field]);
    let row = json!({"CUSTOMER_ID": id, "NAME": format!("n{id}"), "POINTS": points});
    let source = json!({"schema": "SALES", "table": "CUSTOMERS", "ts_ms": 1_706_000_000_000_i64});
    let schema = json!({"type": "struct", "fields": [{"field": "after", "type": "struct", "fields": fields}]});
    let payload = json!({"before": null, "after": row, "source": source, "op": "c"});
    message(TOPIC, &json!({"schema": schema, "payload": payload}), json!({}))
}

async fn publish_all(shop: &Shop, published: &mut u64, messages: &[String]) {
    publish(shop, messages).await;
    *published += messages.len() as u64;
    shop.wait_for(*published).await;
}

/// What the processor says about its SQL, once it says this and is ready.
async fn ready_with(shop: &Shop, what: &str) -> String {
    loop {
        if let Some((status, ready)) = get(shop, "/ready").await
            && status.contains("200")
            && ready.contains(what)
        {
            let body: Value = serde_json::from_str(&ready).expect("JSON");
            return body["conditions"]["sql"].as_str().expect("a sentence").to_owned();
        }
        pause().await;
    }
}

async fn waits(shop: &Shop, result: &str) -> bool {
    let (_, metrics) = get(shop, "/metrics").await.expect("metrics");
    metrics.contains(&format!("cdc_waiting_transforms{{result=\"{result}\"}} 1"))
}

async fn until_it_runs(shop: &Shop, result: &str) {
    while get(shop, "/metrics").await.is_none() || waits(shop, result).await {
        pause().await;
    }
}

/// Long; reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// A result is written whole after the metric says that it runs.
async fn until(shop: &Shop, sql: &str, expected: &[String]) {
    let started = Instant::now();
    while shown(shop, sql).await != expected {
        if started.elapsed() > PATIENCE {
            assert_eq!(shown(shop, sql).await, expected, "{sql}\n{}", shop.log_tail("run"));
        }
        pause().await;
    }
}

async fn check(shop: &Shop, expected: &[(&str, &str)]) {
    for (sql, expected) in expected {
        until(shop, sql, &expected.split(", ").map(str::to_owned).collect::<Vec<_>>()).await;
    }
}

/// The result is what the landed rows make of it.
async fn is_exact(shop: &Shop, result: &str, computed: &str) {
    let landed = shown(shop, &format!("SELECT {computed} ORDER BY 1, 2")).await;
    until(shop, &format!("SELECT {result} ORDER BY 1, 2"), &landed).await;
}

const POINTS: &str = "customer_id, extra_fields ->> 'POINTS' FROM cdc_customers_current WHERE extra_fields ? 'POINTS'";

/// The statement that the message ends with, as an operator copies it.
fn statement<'a>(reasons: &'a str, file: &str) -> &'a str {
    let reason = reasons.split("; /").find(|reason| reason.contains(file));
    let reason = reason.unwrap_or_else(|| panic!("{file} is not in {reasons}"));
    let (_, statement) = reason.split_once(", or run: ").expect("a statement");
    statement
}

fn write(sql: &Path, name: &str, text: &str) {
    std::fs::write(sql.join(format!("transforms/{name}.sql")), text).expect("a file");
}

async fn opened(folder: &Path) -> (Shop, std::path::PathBuf) {
    let sql = copied_sql(folder);
    let files = [("plain", PLAIN), ("counted", COUNTED), ("summed", SUMMED), ("named", NAMED)];
    for (name, text) in files.into_iter().chain([("texts", TEXTS)]) {
        write(&sql, name, text);
    }
    let settings = |settings| Settings { sql: sql.clone(), max_messages: 5, ..settings };
    (Shop::open_with(settings).await, sql)
}

/// One target by the statement, the other by an edit.
async fn it_is_mended((shop, sql): (&Shop, &Path), alter: &str, published: &mut u64) {
    // The operator follows the message.
    shop.query(alter).await;
    until_it_runs(shop, "named").await;
    is_exact(shop, "customer_id, points FROM plain", POINTS).await;
    is_exact(shop, "customer_id, name FROM named", "customer_id, name FROM cdc_customers_current")
        .await;
    assert!(waits(shop, "counted").await && waits(shop, "summed").await);

    // Or edits the file.
    write(sql, "counted", EDITED);
    until_it_runs(shop, "counted").await;
    std::fs::remove_file(sql.join("transforms/summed.sql")).expect("a removal");
    publish_all(shop, published, &[customer(7, json!("longer")), customer(8, json!(4))]).await;
    is_exact(shop, "customer_id, points FROM plain", POINTS).await;
    let lengths =
        "length(extra_fields ->> 'POINTS'), count(*) FROM cdc_customers_current GROUP BY 1";
    is_exact(shop, "points, customers FROM counted", lengths).await;
}

#[tokio::test]
async fn a_transform_whose_target_no_longer_fits_waits_alone_and_is_whole_when_it_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let (shop, sql) = opened(folder.path()).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let mut published = 0;
    publish_all(&shop, &mut published, &[customer(1, json!(1)), customer(2, json!(7))]).await;
    until_it_runs(&shop, "named").await;
    check(
        &shop,
        &[
            ("SELECT customer_id, points FROM plain ORDER BY 1", "1|1, 2|7"),
            ("SELECT points, customers FROM counted ORDER BY 1", "1|1, 7|1"),
            ("SELECT has_points, points FROM summed", "t|8"),
        ],
    )
    .await;

    // BOI= is 12.50.
    publish_all(&shop, &mut published, &[customer(3, json!("BOI="))]).await;
    let said = ready_with(&shop, "numeric(38,2)").await;
    for reason in [
        "plain.sql: its target does not take its rows, and it waits: plain.points: the column is bigint, which \
         cannot take numeric(38,2)",
        "counted.sql: its target does not take",
        "summed.sql: its target does not take",
        "named.sql: needs the result plain, which waits",
    ] {
        assert!(said.contains(reason), "{reason} is not in {said}");
    }
    assert!(waits(&shop, "plain").await && waits(&shop, "named").await);
    assert!(!waits(&shop, "texts").await && !waits(&shop, "orders_enriched").await);

    // It widens further while it waits, and the others run on.
    let more = [customer(4, json!("x")), customer(1, json!(2)), customer(5, json!("y"))];
    publish_all(&shop, &mut published, &more).await;
    let said = ready_with(&shop, "which cannot take text").await;
    // A sum of texts is no query at all any more.
    assert!(said.contains("summed.sql"), "{said}");
    is_exact(&shop, "* FROM (SELECT customer_id, points FROM texts) t", POINTS).await;
    check(&shop, &[("SELECT customer_id, points FROM plain ORDER BY 1", "1|1, 2|7")]).await;

    // So it stays over a restart.
    shop.end(&mut processor).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let said = ready_with(&shop, "which cannot take text").await;
    publish_all(&shop, &mut published, &[customer(6, json!(3)), customer(2, json!("z"))]).await;
    is_exact(&shop, "* FROM (SELECT customer_id, points FROM texts) t", POINTS).await;
    let (is_content, found) = examined(&shop, "tidemark.toml").await;
    let alter = statement(&said, "plain.sql");
    let is_it = |finding: &Value| finding["verdict"] == "problem" && finding["fix"] == alter;
    assert!(!is_content && found.iter().any(is_it), "{alter} is not in {found:?}");

    it_is_mended((&shop, &sql), alter, &mut published).await;
    check(&shop, &[("SELECT count(*) FROM cdc_dlq", "0")]).await;
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_target_that_never_fitted_its_new_column_lets_its_file_wait_until_it_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let (shop, sql) = opened(folder.path()).await;
    // There is no API, and it takes a restart to have one.
    write(&sql, "api", &PLAIN.replace("postgres plain", "rest /points"));
    shop.query("CREATE TABLE plain (customer_id bigint PRIMARY KEY, points date)").await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let mut published = 0;
    publish_all(&shop, &mut published, &[customer(1, json!(1)), customer(2, json!(7))]).await;
    let said = ready_with(&shop, "plain.points: the column is date, which cannot take int8").await;
    assert!(said.contains("api.sql: ") && said.contains("set sink.rest.base_url"), "{said}");
    publish_all(&shop, &mut published, &[customer(3, json!(5))]).await;
    is_exact(&shop, "* FROM (SELECT customer_id, points FROM texts) t", POINTS).await;
    shop.query("DROP TABLE plain").await;
    until_it_runs(&shop, "counted").await;
    check(
        &shop,
        &[
            ("SELECT customer_id, points FROM plain ORDER BY 1", "1|1, 2|7, 3|5"),
            ("SELECT count(*) FROM counted", "3"),
        ],
    )
    .await;
    let log = std::fs::read_to_string(shop.stack.folder().join("run.log")).expect("a log");
    let tried: Vec<&str> = log.lines().filter(|line| line.contains("has been altered")).collect();
    assert!(tried.len() == 1 && tried[0].contains("plain"), "{tried:?}");
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
