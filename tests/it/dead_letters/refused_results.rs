//! Rows of results that Postgres refused come back as what they are today: written, deleted or left alone, once.

use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use tidemark_dev::stack::Settings;

use crate::dead_letters::dlq::replay;
use crate::messages::dialects::{message, publish, shown};
use crate::referee;
use crate::shop::{Shop, copied_sql, pause};

const LOG: &str = "-- writes: postgres order_log\nSELECT order_id, status, op, total_amount, updated_at, event_id FROM orders_changes\n";
/// Nobody is to be GOLD in the one, and nothing lost in the other.
const RULES: &str = "
    ALTER TABLE cdc_orders_enriched ADD CONSTRAINT no_gold CHECK (customer_tier <> 'GOLD');
    CREATE TABLE order_log (order_id BIGINT, status TEXT CONSTRAINT no_loss CHECK (status <> 'LOST'), op TEXT,
      total_amount NUMERIC(15,2), updated_at TIMESTAMP, event_id TEXT);";
const NO_GOLD: &str = "ALTER TABLE cdc_orders_enriched DROP CONSTRAINT no_gold";

/// Milliseconds of the source's clock.
const START: i64 = 1_706_000_000_000;
const HOUR: i64 = 3_600_000;

pub(crate) fn change(table: &str, op: &str, row: &Value, at: i64) -> String {
    let (before, after) = if op == "d" { (row, &Value::Null) } else { (&Value::Null, row) };
    let source = json!({"schema": "SALES", "table": table, "ts_ms": at});
    let payload = json!({"before": before, "after": after, "source": source, "op": op});
    message(&format!("cdc/oracle/SALES/{table}"), &payload, json!({}))
}

fn customer(id: i64, tier: &str, at: i64) -> String {
    let row = json!({"CUSTOMER_ID": id, "NAME": format!("C{id}"), "TIER": tier});
    change("CUSTOMERS", "u", &row, at)
}

fn order(op: &str, (id, customer): (i64, i64), status: &str, at: i64) -> String {
    let cents = if status == "PAID" { 20 } else { 10 };
    let row = json!({
        "ORDER_ID": id, "CUSTOMER_ID": customer, "ORDER_DATE": at * 1000, "STATUS": status,
        "TOTAL_AMOUNT": format!("{id}.{cents}"), "UPDATED_AT": at * 1000 + 1,
    });
    change("ORDERS", op, &row, at)
}

/// Customer 1 is GOLD from the start, customer 2 becomes it.
fn events() -> Vec<String> {
    let at = START;
    let mut events =
        vec![customer(1, "GOLD", at), customer(2, "SILVER", at), customer(3, "SILVER", at)];
    events.extend((1..=4).map(|id| order("c", (id, 1), "NEW", at)));
    events.push(order("c", (5, 2), "NEW", at));
    events.push(order("c", (6, 3), "LOST", at));
    events
}

struct Scene {
    shop: Shop,
    published: u64,
    sql: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sql = copied_sql(folder.path());
        std::fs::write(sql.join("ods/90_rules.sql"), RULES).expect("a file");
        std::fs::write(sql.join("transforms/order_log.sql"), LOG).expect("a file");
        let shop = Shop::open_with(|settings| Settings { sql: sql.clone(), ..settings }).await;
        Self { shop, published: 0, sql, _folder: folder }
    }

    async fn publish(&mut self, events: &[String]) {
        publish(&self.shop, events).await;
        self.published += events.len() as u64;
        self.shop.wait_for(self.published).await;
    }

    async fn replay(&self, arguments: &[&str]) -> (Vec<String>, Output) {
        replay(&self.shop, arguments).await
    }

    /// The letters of a result: the key, what becomes of it, and how often it was tried.
    async fn letters(&self, result: &str) -> Vec<String> {
        let sql = format!(
            "SELECT payload->>'order_id', status, retry_count FROM cdc_dlq \
             WHERE original_topic = 'result/{result}' AND error_type = 'ROW_REFUSED' ORDER BY id"
        );
        shown(&self.shop, &sql).await
    }

    async fn enriched(&self) -> Vec<String> {
        let sql = "SELECT order_id, customer_tier, processed_at FROM cdc_orders_enriched \
            WHERE order_id < 100 ORDER BY order_id";
        shown(&self.shop, sql).await
    }

    async fn is_exact(&self) {
        referee::results_are_exact(&self.shop, self.published).await;
    }
}

#[tokio::test]
async fn refused_rows_of_results_become_what_they_are_today_once() {
    let mut scene = Scene::open().await;
    let mut processor = scene.shop.stack.processor(None).expect("a processor");
    scene.publish(&events()).await;
    // An update that the target refuses: it keeps the old row.
    scene.publish(&[customer(2, "GOLD", START + 1)]).await;
    // One is deleted, one changes, and is refused once more.
    scene
        .publish(&[order("d", (2, 1), "NEW", START + 2), order("u", (3, 1), "PAID", START + 2)])
        .await;
    // More than ttl later: what is refused is in memory no more.
    let later = START + 3 * HOUR;
    let many: Vec<String> = (100..800).map(|id| order("c", (id, 3), "NEW", later)).collect();
    scene.publish(&many).await;
    scene.publish(&[order("c", (800, 3), "NEW", later + HOUR)]).await;
    let letters = ["1|dead|0", "2|dead|0", "3|dead|0", "4|dead|0", "5|dead|0", "3|dead|0"];
    assert_eq!(scene.letters("orders_enriched").await, letters);

    // Nothing has changed: it fails as before.
    let first = "SELECT min(id) FROM cdc_dlq WHERE original_topic = 'result/orders_enriched'";
    let first = scene.shop.number(first).await.to_string();
    let (outcomes, output) = scene.replay(&["--id", &first]).await;
    assert_eq!(outcomes, ["failed again"]);
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("no_gold") && told.contains("order_id = 1"), "{told}");
    assert_eq!(scene.letters("orders_enriched").await[0], "1|dead|1");

    scene.shop.query(NO_GOLD).await;
    // The next change of this one writes it.
    scene.publish(&[order("u", (4, 1), "PAID", later + HOUR)]).await;
    let of_result = ["--topic", "result/orders_enriched"];
    let (outcomes, output) = scene.replay(&of_result).await;
    // Of two letters about one row the newest is the one that is replayed.
    let expected = ["replayed", "superseded", "superseded", "superseded", "replayed", "replayed"];
    assert_eq!(outcomes, expected, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    scene.is_exact().await;
    let enriched = scene.enriched().await;
    let rows: Vec<&str> = enriched.iter().map(|row| &row[..row.rfind('|').unwrap()]).collect();
    assert_eq!(rows, ["1|GOLD", "3|GOLD", "4|GOLD", "5|GOLD", "6|SILVER"]);

    let (outcomes, output) = scene.replay(&of_result).await;
    assert!(outcomes.is_empty() && output.status.success());
    scene.shop.query("UPDATE cdc_dlq SET status = 'dead'").await;
    let (outcomes, _) = scene.replay(&of_result).await;
    assert_eq!(outcomes, ["superseded"; 6], "the target holds all of it");
    assert_eq!(scene.enriched().await, enriched, "no row is written again");
    scene.shop.end(&mut processor).await;
    scene.shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_refused_appended_row_is_added_once() {
    let mut scene = Scene::open().await;
    let mut processor = scene.shop.stack.processor(None).expect("a processor");
    scene.publish(&events()).await;
    scene.publish(&[order("u", (6, 3), "FOUND", START + 1)]).await;
    assert_eq!(scene.letters("order_log").await, ["6|dead|0"]);
    scene.shop.query("ALTER TABLE order_log DROP CONSTRAINT no_loss").await;
    for expected in [vec!["replayed"], vec![]] {
        let (outcomes, output) = scene.replay(&["--topic", "result/order_log"]).await;
        assert_eq!(outcomes, expected);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let log = "SELECT order_id, status, op, total_amount, updated_at FROM order_log WHERE order_id = 6 ORDER BY status";
    let rows =
        ["6|FOUND|u|6.10|2024-01-23 08:53:20.001001", "6|LOST|c|6.10|2024-01-23 08:53:20.000001"];
    assert_eq!(shown(&scene.shop, log).await, rows);
    let same = "SELECT count(*) FROM order_log l JOIN cdc_orders o USING (event_id)";
    assert_eq!(scene.shop.number(same).await, 7, "also the id of its event");

    // A result that is gone can't be put right, and says so.
    scene
        .shop
        .query("UPDATE cdc_dlq SET status = 'dead' WHERE original_topic = 'result/order_log'")
        .await;
    scene.shop.end(&mut processor).await;
    std::fs::remove_file(scene.sql.join("transforms/order_log.sql")).expect("removed");
    let mut processor = scene.shop.stack.processor(None).expect("a processor");
    let (outcomes, output) = scene.replay(&["--topic", "result/order_log"]).await;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(outcomes == ["failed again"] && told.contains("no SQL file keeps"), "{told}");
    scene.shop.end(&mut processor).await;
    scene.shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_replay_of_refused_rows_that_dies_is_asked_for_still() {
    let mut scene = Scene::open().await;
    let mut processor = scene.shop.stack.processor(None).expect("a processor");
    scene.publish(&events()).await;
    scene.shop.end(&mut processor).await;
    scene.shop.query(NO_GOLD).await;
    scene.shop.query("ALTER TABLE order_log DROP CONSTRAINT no_loss").await;
    scene.shop.query("UPDATE cdc_dlq SET status = 'requested'").await;
    let mut processor = scene.shop.stack.processor(Some("before_commit:1")).expect("a processor");
    assert!(!scene.shop.wait_for_end(&mut processor).await, "it dies");
    let asked = "SELECT count(*) FROM cdc_dlq WHERE status = 'requested'";
    assert_eq!(scene.shop.number(asked).await, 5);
    assert!(scene.enriched().await.iter().all(|row| !row.contains("GOLD")));
    let mut processor =
        scene.shop.stack.processor(Some("between_commit_and_ack:1")).expect("a processor");
    assert!(!scene.shop.wait_for_end(&mut processor).await, "it dies");
    let settled = ["1|replayed|1", "2|replayed|1", "3|replayed|1", "4|replayed|1"];
    assert_eq!(scene.letters("orders_enriched").await, settled);
    assert_eq!(scene.letters("order_log").await, ["6|replayed|1"]);

    let mut processor = scene.shop.stack.processor(None).expect("a processor");
    while scene.shop.number(asked).await > 0 {
        pause().await;
    }
    scene.publish(&[order("u", (1, 1), "PAID", START + 1)]).await;
    scene.shop.end(&mut processor).await;
    scene.is_exact().await;
    assert_eq!(scene.shop.number("SELECT count(*) FROM order_log").await, 7);
    scene.shop.stack.stop().await.expect("the servers end");
}
