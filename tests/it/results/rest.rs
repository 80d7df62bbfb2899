//! What the shipped alerts post, from the queue to an API that fails, with kills of the processor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tidemark_broker::api::{Faults, Received, Store, serve};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::end_to_end::{get, publish};
use crate::shop::{Shop, copied_sql, pause};

const EVENTS: &str = "/api/v1/events";
const ITEMS: &str = "/api/v1/order-items";
const WAITING: &str = "SELECT count(*) FROM tidemark_outbox WHERE delivered_at IS NULL";

/// An API in this process, so that it survives the processor.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) url: String,
    _stop: DropGuard,
}

impl Api {
    pub(crate) async fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (store, stop) = (Store::keeping(1_000_000), CancellationToken::new());
        store.set_faults(faults);
        tokio::spawn(serve(listener, store.clone(), stop.clone()));
        Self { store, url, _stop: stop.drop_guard() }
    }

    /// The ids of the events of each order, in the order in which they first came.
    fn events(&self, path: &str) -> BTreeMap<String, Vec<String>> {
        let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in self.store.list(usize::MAX, |row| row.path == path) {
            let key = row.body["data"]["order_id"].to_string();
            let id = row.body["event_id"].as_str().expect("an id").to_owned();
            events.entry(key).or_default().push(id);
        }
        events
    }
}

fn sql_with_alerts(folder: &Path) -> std::path::PathBuf {
    let sql = copied_sql(folder);
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/alerts");
    for entry in std::fs::read_dir(alerts).expect("the shipped alerts") {
        let from = entry.expect("a file").path();
        let to = sql.join("transforms").join(from.file_name().expect("a name"));
        std::fs::copy(from, to).expect("a copy");
    }
    sql
}

#[tokio::test]
async fn an_api_that_fails_gets_every_change_in_order_per_key_over_two_kills() {
    let faults = Faults {
        unavailable_percent: 20,
        too_many_percent: 5,
        drop_percent: 5,
        retry_after: "0".to_owned(),
        ..Faults::default()
    };
    let api = Api::start(faults).await;
    let folder = tempfile::tempdir().expect("a folder");
    let sql = sql_with_alerts(folder.path());
    let more_config = format!(
        "[sink.rest]\nbase_url = '{}'\nfirst_wait = '5ms'\nlongest_wait = '50ms'\nbreaker_pause = '100ms'\n",
        api.url
    );
    let shop =
        Shop::open_with(|settings| tidemark_dev::stack::Settings { sql, more_config, ..settings })
            .await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let mut generator =
        shop.stack.generator(&["--rate", "300/s", "--events", "3000"]).expect("a generator");
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..2 {
        shop.wait_for(shop.committed().await + random.random_range(100..800)).await;
        processor.kill().await.expect("a kill");
        processor = shop.stack.processor(None).expect("a processor");
    }
    assert!(shop.wait_for_end(&mut generator).await, "{}", shop.log_tail("generate"));
    shop.wait_for(shop.stack.published().expect("a count")).await;
    while shop.number(WAITING).await > 0 {
        pause().await;
    }
    shop.end(&mut processor).await;

    for (path, landing) in [(EVENTS, "cdc_orders"), (ITEMS, "cdc_order_items")] {
        assert_eq!(api.events(path), landed(&shop, landing).await, "{path}");
    }
    current_orders_are_exact(&shop, &api).await;
    alerts_are_exact(&shop, &api).await;
    let stats = api.store.stats();
    assert!(stats.duplicates > 0, "answers were lost: {stats:?}");
    assert_eq!(shop.number("SELECT count(*) FROM cdc_dlq WHERE phase = 'rest'").await, 0);
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_full_outbox_holds_the_flow_also_over_a_kill_until_the_api_is_back() {
    let api = Api::start(Faults { unavailable_percent: 100, ..Faults::default() }).await;
    let folder = tempfile::tempdir().expect("a folder");
    let sql = sql_with_alerts(folder.path());
    let more_config = format!(
        "[sink.rest]\nbase_url = '{}'\nfirst_wait = '5ms'\nlongest_wait = '50ms'\nbreaker_pause = '100ms'\n\
         outbox_limit = 100\n",
        api.url
    );
    let settings = |settings| tidemark_dev::stack::Settings {
        sql,
        more_config,
        max_messages: 100,
        ..settings
    };
    let shop = Shop::open_with(settings).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let published = publish(&shop, &["--rate", "max", "--events", "2000"]).await;
    for _ in 0..2 {
        while get(&shop, "/ready").await.is_none_or(|(status, page)| {
            !(status.contains("503") && page.contains("the outbox is full"))
        }) {
            pause().await;
        }
        let waiting = shop.number(WAITING).await;
        assert!((100..=1000).contains(&waiting), "{waiting} rows wait");
        processor.kill().await.expect("a kill");
        processor = shop.stack.processor(None).expect("a processor");
    }
    assert!(shop.committed().await < published, "the flow is held");
    assert!(api.store.list(usize::MAX, |_| true).is_empty());
    api.store.set_faults(Faults::default());
    shop.wait_for(published).await;
    while shop.number(WAITING).await > 0 {
        pause().await;
    }
    shop.end(&mut processor).await;
    for (path, landing) in [(EVENTS, "cdc_orders"), (ITEMS, "cdc_order_items")] {
        assert_eq!(api.events(path), landed(&shop, landing).await, "{path}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM cdc_dlq").await, 0);
    shop.stack.stop().await.expect("the servers end");
}

/// The ids of the landed events of each order, in broker order.
async fn landed(shop: &Shop, table: &str) -> BTreeMap<String, Vec<String>> {
    let sql = format!("SELECT order_id, event_id FROM {table} ORDER BY change_seq");
    let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in shop.query(&sql).await {
        let text = |at: usize| row[at].clone().unwrap_or_else(|| "null".to_owned());
        events.entry(text(0)).or_default().push(text(1));
    }
    assert!(events.len() > 100, "{table}: {} orders", events.len());
    events
}

/// What a receiver that applies each key once has in the end is what the database has.
async fn current_orders_are_exact(shop: &Shop, api: &Api) {
    let mut current: BTreeMap<i64, [Option<String>; 2]> = BTreeMap::new();
    for Received { operation, body, .. } in api.store.list(usize::MAX, |row| row.path == EVENTS) {
        let data = &body["data"];
        let id = data["order_id"].as_i64().expect("a key");
        match operation.as_str() {
            "deleted" => drop(current.remove(&id)),
            _ => drop(current.insert(id, [text(&data["status"]), text(&data["total_amount"])])),
        }
    }
    let sql = "SELECT order_id, status, total_amount::float8 FROM cdc_orders_current";
    let rows = shop.query(sql).await;
    let number =
        |text: &Option<String>| text.as_ref().map(|text| text.parse::<f64>().expect("a number"));
    assert_eq!(rows.len(), current.len());
    for row in rows {
        let id: i64 = row[0].as_ref().expect("a key").parse().expect("a number");
        let [status, total] = &current[&id];
        assert_eq!((status, number(total)), (&row[1], number(&row[2])), "order {id}");
    }
}

/// Whatever is a cause at the end has been notified of, and nothing twice.
async fn alerts_are_exact(shop: &Shop, api: &Api) {
    let high = "SELECT o.order_id FROM cdc_orders_current o JOIN cdc_customers_current c USING (customer_id) \
        WHERE c.tier = 'GOLD' AND o.total_amount > 10000";
    let rapid = "SELECT DISTINCT o.customer_id, to_char(o.order_date, 'YYYY-MM-DD\"T\"HH24:MI:00') \
        FROM cdc_orders_current o WHERE 3 <= (SELECT count(*) FROM cdc_orders_current e \
        WHERE e.customer_id = o.customer_id AND e.order_date <= o.order_date \
        AND e.order_date > o.order_date - INTERVAL '1 minute')";
    for (kind, key, causes) in [
        ("HIGH_VALUE_ORDER", vec!["order_id"], high),
        ("RAPID_ORDERS", vec!["customer_id", "minute"], rapid),
    ] {
        let alerts = api.store.list(usize::MAX, |row| row.body["notification_type"] == kind);
        let keys = alerts.iter().map(|row| {
            key.iter().map(|name| text(&row.body["payload"][*name])).collect::<Vec<_>>()
        });
        let notified: BTreeSet<Vec<Option<String>>> = keys.collect();
        assert_eq!(notified.len(), alerts.len(), "{kind}: each key once");
        for cause in shop.query(causes).await {
            assert!(notified.contains(&cause), "{kind}: {cause:?} was not notified of");
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
