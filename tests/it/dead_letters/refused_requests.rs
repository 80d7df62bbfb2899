//! Requests that an API refused are posted again, with their keys and bytes, and no old version after a newer one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tidemark_dev::stack::Settings;
use tokio::net::TcpListener;

use crate::dead_letters::dlq::{dlq, replay};
use crate::dead_letters::refused_results::change;
use crate::messages::dialects::{publish, shown};
use crate::shop::{Shop, copied_sql, pause};

/// What an order is; what happened to it; and that it is one of a kind, told once.
const RESULTS: [(&str, &str); 3] = [
    (
        "order_state",
        "-- writes: rest /state\n-- key: order_id\nSELECT order_id, status FROM orders\n",
    ),
    (
        "order_facts",
        "-- writes: rest /facts\n-- key: order_id\nSELECT order_id, status, op, event_id FROM orders_changes\n",
    ),
    (
        "odd_orders",
        "-- writes: rest /odd\n-- key: order_id\n-- sends: once\nSELECT order_id, status FROM orders WHERE order_id % 2 = 1\n",
    ),
];
const WAITING: &str = "SELECT count(*) FROM tidemark_outbox WHERE delivered_at IS NULL";

/// A request that was taken.
#[derive(Debug, Clone)]
struct Taken {
    path: String,
    key: String,
    operation: String,
    body: Value,
    bytes: Bytes,
}

#[derive(Debug, Default)]
struct Kept {
    taken: Vec<Taken>,
    /// Statuses of orders that are answered with 400.
    refuses: BTreeSet<&'static str>,
    /// Answers 503.
    is_down: bool,
}

#[derive(Debug, Clone, Default)]
struct Api(Arc<Mutex<Kept>>);

impl Api {
    async fn start(&self) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(take).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn refuse(&self, statuses: &[&'static str]) {
        self.0.lock().expect("a lock").refuses = statuses.iter().copied().collect();
    }

    fn set_down(&self, is_down: bool) {
        self.0.lock().expect("a lock").is_down = is_down;
    }

    /// What came to a path, each key once: the order and its status.
    fn rows(&self, path: &str) -> Vec<String> {
        let (mut keys, mut rows) = (BTreeSet::new(), Vec::new());
        for row in &self.0.lock().expect("a lock").taken {
            if row.path == path && keys.insert(row.key.clone()) {
                rows.push(format!(
                    "{} {}",
                    row.body["order_id"],
                    row.body["status"].as_str().unwrap_or("-")
                ));
            }
        }
        rows
    }

    /// What a receiver shows that applies each key once.
    fn state(&self) -> Vec<String> {
        let (mut keys, mut state) = (BTreeSet::new(), BTreeMap::new());
        for row in &self.0.lock().expect("a lock").taken {
            if row.path != "/state" || !keys.insert(row.key.clone()) {
                continue;
            }
            let id = row.body["order_id"].as_i64().expect("a key");
            match row.operation.as_str() {
                "deleted" => state.remove(&id),
                _ => state
                    .insert(id, format!("{id}|{}", row.body["status"].as_str().expect("a status"))),
            };
        }
        state.into_values().collect()
    }

    fn all(&self) -> Vec<Taken> {
        self.0.lock().expect("a lock").taken.clone()
    }
}

async fn take(State(api): State<Api>, uri: Uri, headers: HeaderMap, bytes: Bytes) -> Response {
    let mut kept = api.0.lock().expect("a lock");
    let body: Value = serde_json::from_slice(&bytes).expect("JSON");
    if kept.is_down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if body["status"].as_str().is_some_and(|status| kept.refuses.contains(status)) {
        return (StatusCode::BAD_REQUEST, "no such status").into_response();
    }
    let text = |name: &str| headers[name].to_str().expect("text").to_owned();
    let (key, operation) = (text("Idempotency-Key"), text("Tidemark-Operation"));
    kept.taken.push(Taken { path: uri.path().to_owned(), key, operation, body, bytes });
    StatusCode::CREATED.into_response()
}

fn order(op: &str, id: i64, status: &str, at: i64) -> String {
    let at = 1_706_000_000_000 + at;
    let row = json!({"ORDER_ID": id, "CUSTOMER_ID": 1, "ORDER_DATE": at * 1000, "STATUS": status, "TOTAL_AMOUNT": "1.00"});
    change("ORDERS", op, &row, at)
}

struct Scene {
    shop: Shop,
    api: Api,
    published: u64,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// Three orders that the API refuses, and one that it takes; then two of the others change.
    async fn with_letters() -> (Self, tokio::process::Child) {
        let api = Api::default();
        let url = api.start().await;
        let folder = tempfile::tempdir().expect("a folder");
        let sql = copied_sql(folder.path());
        write_results(&sql);
        let more_config = format!(
            "[sink.rest]\nbase_url = '{url}'\nfirst_wait = '5ms'\nlongest_wait = '50ms'\nbreaker_pause = '100ms'\n"
        );
        let shop = Shop::open_with(|settings| Settings { sql, more_config, ..settings }).await;
        let mut scene = Self { shop, api, published: 0, _folder: folder };
        scene.api.refuse(&["BAD", "WORSE"]);
        let processor = scene.shop.stack.processor(None).expect("a processor");
        let bad = (1..=3).map(|id| order("c", id, "BAD", 0));
        scene.publish(&bad.chain([order("c", 4, "GOOD", 0)]).collect::<Vec<_>>()).await;
        scene.publish(&[order("u", 2, "GOOD", 1), order("u", 3, "WORSE", 1)]).await;
        (scene, processor)
    }

    /// Until the API has answered about all that comes of these.
    async fn publish(&mut self, events: &[String]) {
        publish(&self.shop, events).await;
        self.published += events.len() as u64;
        self.shop.wait_for(self.published).await;
        self.until(WAITING, 0).await;
    }

    async fn until(&self, sql: &str, count: i64) {
        let started = std::time::Instant::now();
        while self.shop.number(sql).await != count {
            assert!(started.elapsed().as_secs() < 60, "{sql}\n{}", self.shop.log_tail("run"));
            pause().await;
        }
    }

    async fn replay(&self, arguments: &[&str]) -> (Vec<String>, Output) {
        replay(&self.shop, arguments).await
    }

    async fn letters(&self, result: &str) -> Vec<String> {
        let sql = format!(
            "SELECT body->>'order_id', body->>'status', status, retry_count \
             FROM (SELECT *, convert_from(original_payload, 'UTF8')::jsonb AS body FROM cdc_dlq) letter \
             WHERE properties->>'result' = '{result}' AND phase = 'rest' ORDER BY (properties->>'place')::bigint"
        );
        shown(&self.shop, &sql).await
    }

    async fn state_is_exact(&self) {
        let current = "SELECT order_id, status FROM cdc_orders_current ORDER BY order_id";
        assert_eq!(self.api.state(), shown(&self.shop, current).await);
    }

    async fn end(self, mut processor: tokio::process::Child) {
        self.shop.end(&mut processor).await;
        self.shop.stack.stop().await.expect("the servers end");
    }
}

fn write_results(sql: &Path) {
    for (name, text) in RESULTS {
        std::fs::write(sql.join(format!("transforms/{name}.sql")), text).expect("a file");
    }
}

#[tokio::test]
async fn refused_requests_are_posted_again_and_no_old_version_after_a_newer_one() {
    let (scene, processor) = Scene::with_letters().await;
    // What the API took of order 2 makes its first version old. A fact does not.
    let state = ["1|BAD|dead|0", "2|BAD|superseded|0", "3|BAD|dead|0", "3|WORSE|dead|0"];
    assert_eq!(scene.letters("order_state").await, state);
    let facts = ["1|BAD|dead|0", "2|BAD|dead|0", "3|BAD|dead|0", "3|WORSE|dead|0"];
    assert_eq!(scene.letters("order_facts").await, facts);
    assert_eq!(scene.letters("odd_orders").await, ["1|BAD|dead|0", "3|BAD|dead|0"]);

    // Half of it is mended.
    scene.api.refuse(&["WORSE"]);
    let (outcomes, output) = scene.replay(&["--phase", "rest"]).await;
    let failed = outcomes.iter().filter(|outcome| *outcome == "failed again").count();
    assert_eq!((outcomes.len(), failed), (9, 2), "{outcomes:?}");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("no such status"));
    let state = ["1|BAD|replayed|1", "2|BAD|superseded|0", "3|BAD|replayed|1", "3|WORSE|dead|1"];
    assert_eq!(scene.letters("order_state").await, state);

    scene.api.refuse(&[]);
    let (outcomes, output) = scene.replay(&["--all"]).await;
    assert_eq!(outcomes, ["replayed"; 2], "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    scene.state_is_exact().await;
    // In the order of each order, and the facts all of them.
    let facts: BTreeSet<String> = scene.api.rows("/facts").into_iter().collect();
    let expected = ["1 BAD", "2 BAD", "2 GOOD", "3 BAD", "3 WORSE", "4 GOOD"];
    assert_eq!(facts, expected.map(str::to_owned).into());
    let odd: BTreeSet<String> = scene.api.rows("/odd").into_iter().collect();
    assert_eq!(odd, ["1 BAD", "3 BAD"].map(str::to_owned).into());
    let before = scene.api.all();
    let keys: BTreeSet<&String> = before.iter().map(|row| &row.key).collect();
    assert_eq!(keys.len(), before.len(), "nothing twice");
    bytes_are_kept(&scene, &before).await;

    let (outcomes, output) = scene.replay(&["--all"]).await;
    assert!(outcomes.is_empty() && output.status.success());
    assert_eq!(scene.api.all().len(), before.len());
    let open = "SELECT count(*) FROM cdc_dlq WHERE status NOT IN ('replayed', 'superseded')";
    assert_eq!(scene.shop.number(open).await, 0);
    scene.end(processor).await;
}

/// Each request is that of its letter.
async fn bytes_are_kept(scene: &Scene, taken: &[Taken]) {
    let sql = "SELECT properties->>'idempotency_key', original_topic, convert_from(original_payload, 'UTF8') \
        FROM cdc_dlq WHERE status = 'replayed'";
    for row in scene.shop.query(sql).await {
        let is_it = |taken: &&Taken| Some(&taken.key) == row[0].as_ref();
        let taken = taken.iter().find(is_it).expect("it came");
        let bytes = String::from_utf8(taken.bytes.to_vec()).expect("text");
        assert_eq!((Some(&taken.path), Some(&bytes)), (row[1].as_ref(), row[2].as_ref()));
    }
}

#[tokio::test]
async fn a_request_waits_for_an_api_that_is_down_and_gives_way_to_a_newer_one() {
    let (mut scene, processor) = Scene::with_letters().await;
    scene.api.refuse(&[]);
    scene.api.set_down(true);
    // The newer version of order 1 waits; that of order 3 is a letter itself.
    publish(&scene.shop, &[order("u", 1, "GOOD", 2)]).await;
    scene.published += 1;
    scene.shop.wait_for(scene.published).await;
    // The processor looks for requests once a second: a wait of no more is taken back before it has looked, now and then.
    let (mut outcomes, output) = scene.replay(&["--topic", "/state", "--wait", "10s"]).await;
    outcomes.sort();
    let queued = "queued for delivery";
    assert_eq!(outcomes, [queued, queued, "superseded"], "3, 3 once more, and 1");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("2 requests wait in the outbox"), "{told}");
    let state = ["1|BAD|superseded|1", "2|BAD|superseded|0", "3|BAD|queued|1", "3|WORSE|queued|1"];
    assert_eq!(scene.letters("order_state").await, state);
    let purged = dlq(&scene.shop, &["purge", "--topic", "/state", "--status", "queued"]).await;
    assert!(String::from_utf8_lossy(&purged.stdout).starts_with("0 "), "what is under way stays");

    scene.api.set_down(false);
    scene.until("SELECT count(*) FROM cdc_dlq WHERE status = 'queued'", 0).await;
    scene.until(WAITING, 0).await;
    let state =
        ["1|BAD|superseded|1", "2|BAD|superseded|0", "3|BAD|replayed|1", "3|WORSE|replayed|1"];
    assert_eq!(scene.letters("order_state").await, state);
    scene.state_is_exact().await;
    let of_three = scene.api.rows("/state").into_iter().filter(|row| row.starts_with('3'));
    assert_eq!(of_three.collect::<Vec<_>>(), ["3 BAD", "3 WORSE"]);
    scene.end(processor).await;
}

#[tokio::test]
async fn a_replay_of_requests_that_dies_comes_to_the_same_end() {
    let (mut scene, mut processor) = Scene::with_letters().await;
    scene.shop.end(&mut processor).await;
    scene.api.refuse(&[]);
    scene.shop.query("UPDATE cdc_dlq SET status = 'requested' WHERE status = 'dead'").await;
    let mut processor = scene.shop.stack.processor(Some("before_commit:1")).expect("a processor");
    assert!(!scene.shop.wait_for_end(&mut processor).await, "it dies");
    let count = |status: &str| format!("SELECT count(*) FROM cdc_dlq WHERE status = '{status}'");
    assert_eq!(scene.shop.number(&count("requested")).await, 9);
    assert_eq!(scene.shop.number(WAITING).await, 0);
    scene.api.set_down(true);
    let mut processor =
        scene.shop.stack.processor(Some("between_commit_and_ack:1")).expect("a processor");
    assert!(!scene.shop.wait_for_end(&mut processor).await, "it dies");
    assert_eq!(scene.shop.number(&count("queued")).await, 9);
    assert_eq!(scene.shop.number(WAITING).await, 9);
    scene.api.set_down(false);
    let processor = scene.shop.stack.processor(None).expect("a processor");
    scene.until(&count("replayed"), 9).await;
    scene.publish(&[order("u", 3, "GOOD", 5), order("d", 1, "BAD", 5)]).await;
    scene.state_is_exact().await;
    let tried = "SELECT count(*) FROM cdc_dlq WHERE status = 'replayed' AND retry_count <> 1";
    assert_eq!(scene.shop.number(tried).await, 0);
    scene.end(processor).await;
}
