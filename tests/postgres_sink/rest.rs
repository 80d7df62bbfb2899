//! The outbox and its delivery, against a real PostgreSQL and an API in this process.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use tidemark::model::{
    Changelog, Channel, EpochCommit, LedgerPosition, Offset, Payload, RestChannel, ResultTable,
    Sends, Table,
};
use tidemark::sink::conformance::{self, KEYED, PIPELINE, QUEUE, Stage, epoch};
use tidemark::sink::postgres::{Outbox, PostgresConfig};
use tidemark::sink::rest::{Backlog, Delivery, RestConfig};
use tidemark::sink::{Sink, SinkError, TakeRows};
use tidemark::telemetry::{Condition, Health};
use tidemark_base::Secret;
use tidemark_broker::api::{Faults, Received, Store, serve};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fault_proxy::{Fault, FaultProxy, Step};
use crate::postgres::{Durability, PostgresServer};
use crate::{PostgresStage, count};

const KEYED_PATH: &str = "/api/v1/events";
const APPENDED_PATH: &str = "/api/v1/notifications";

struct Api {
    store: Store,
    url: String,
    _stop: DropGuard,
}

impl Api {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (store, stop) = (Store::keeping(1_000_000), CancellationToken::new());
        tokio::spawn(serve(listener, store.clone(), stop.clone()));
        Self { store, url, _stop: stop.drop_guard() }
    }

    fn rows(&self) -> Vec<Received> {
        self.store.list(usize::MAX, |_| true)
    }
}

/// Where a delivery runs, with what it shows.
pub(crate) struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
    pub(crate) health: Health,
    backlog: Backlog,
}

pub(crate) fn deliver(config: PostgresConfig, api: &str, more: &str) -> Running {
    let text = format!(
        "base_url = '{api}'\nfirst_wait = '2ms'\nlongest_wait = '20ms'\nbreaker_pause = '50ms'\n{more}"
    );
    let rest: RestConfig = toml::from_str(&text).unwrap();
    let (health, backlog) = (Health::default(), Backlog::new(rest.outbox_limit.get()));
    let outbox = Outbox::new(config, PIPELINE);
    let delivery = Delivery::new(outbox, &rest, backlog.clone(), health.clone()).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(delivery.run(stop.clone()));
    Running { task, stop, health, backlog }
}

impl Running {
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// As the end of its process would; the connection, and with it the turn, is gone.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
    }
}

/// The epoch with the results of these targets for the API.
pub(crate) fn posted(commit: &EpochCommit, target: &str) -> EpochCommit {
    post(commit, Sends::Changes, |table| table == target)
}

fn post(commit: &EpochCommit, sends: Sends, is_posted: impl Fn(&str) -> bool) -> EpochCommit {
    let mut commit = commit.clone();
    for changes in commit.results.iter_mut().filter(|changes| is_posted(&changes.table.target)) {
        let rest =
            RestChannel { order: vec![0], sends, payload: Payload::Row, source_tables: Vec::new() };
        let is_keyed = changes.table.target == KEYED;
        changes.table = Arc::new(ResultTable {
            target: if is_keyed { KEYED_PATH } else { APPENDED_PATH }.to_owned(),
            channel: Channel::Rest(rest),
            ..(*changes.table).clone()
        });
    }
    commit
}

/// A sink whose results go to the API instead of into tables.
struct Posting {
    inner: Box<dyn Sink>,
    sends: Sends,
}

#[async_trait]
impl Sink for Posting {
    fn name(&self) -> &str {
        "rest"
    }

    fn run_id(&self) -> &str {
        self.inner.run_id()
    }

    async fn resume(&mut self) -> Result<LedgerPosition, SinkError> {
        self.inner.resume().await
    }

    async fn each_newest(
        &mut self,
        table: &Arc<Table>,
        since: Option<i64>,
        take: TakeRows<'_>,
    ) -> Result<(), SinkError> {
        self.inner.each_newest(table, since, take).await
    }

    async fn history(
        &mut self,
        table: &Arc<Table>,
        keys: &arrow::array::RecordBatch,
    ) -> Result<Vec<Changelog>, SinkError> {
        self.inner.history(table, keys).await
    }

    async fn committed(&mut self, events: &[Offset]) -> Result<HashSet<Offset>, SinkError> {
        self.inner.committed(events).await
    }

    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let commit = post(commit, self.sends, |_| true);
        self.inner.commit(&commit).await
    }
}

/// A stage whose results are what a receiver has that takes each idempotency key once.
pub(crate) struct RestStage {
    tables: PostgresStage,
    api: Api,
}

impl RestStage {
    pub(crate) async fn new(server: &PostgresServer, name: String) -> Self {
        let config = PostgresConfig::from_url(server.url());
        let client = server.client().await;
        Self { tables: PostgresStage { config, schema: name, client }, api: Api::start().await }
    }

    /// A sink whose results go where they say.
    pub(crate) async fn tables_sink(&mut self, queue: &str) -> Box<dyn Sink> {
        self.tables.sink(queue).await
    }

    pub(crate) fn config(&self) -> PostgresConfig {
        let schema = self.tables.schema.clone();
        PostgresConfig { schema, ..self.tables.config.clone() }
    }

    pub(crate) async fn waiting(&self) -> i64 {
        let table = format!("{}.tidemark_outbox WHERE delivered_at IS NULL", self.tables.schema);
        count(&self.tables.client, &table).await
    }

    async fn until_delivered(&self) {
        while self.waiting().await > 0 {}
    }
}

#[async_trait]
impl Stage for RestStage {
    async fn sink(&mut self, queue: &str) -> Box<dyn Sink> {
        Box::new(Posting { inner: self.tables.sink(queue).await, sends: Sends::Changes })
    }

    async fn rows(&mut self, target: &str, columns: &[&str]) -> Vec<Vec<Option<String>>> {
        if target != KEYED && target != conformance::APPENDED {
            return self.tables.rows(target, columns).await;
        }
        let running = deliver(self.config(), &self.api.url, "");
        self.until_delivered().await;
        running.end().await;
        let mut rows: Vec<(String, Vec<Option<String>>)> = Vec::new();
        let path = if target == KEYED { KEYED_PATH } else { APPENDED_PATH };
        for row in self.api.store.list(usize::MAX, |row| row.path == path) {
            let key = row.body["order_id"].to_string();
            let cells = columns.iter().map(|name| match &row.body[*name] {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            });
            rows.retain(|(held, _)| target != KEYED || *held != key);
            if row.operation != "deleted" {
                rows.push((key, cells.collect()));
            }
        }
        let mut rows: Vec<_> = rows.into_iter().map(|(_, cells)| cells).collect();
        rows.sort();
        rows
    }

    async fn set_broken(&mut self, is_broken: bool) {
        self.tables.set_broken(is_broken).await;
    }
}

#[tokio::test]
async fn the_rest_target_conforms() {
    let server = PostgresServer::start(Durability::Off).await;
    let next = std::sync::atomic::AtomicUsize::new(0);
    conformance::check_posted(async || {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        RestStage::new(&server, format!("stage_{number}")).await
    })
    .await;
}

/// Number and status of the keyed rows, in the order in which they first came.
fn keyed(api: &Api) -> Vec<(i64, String)> {
    let rows = api.rows().into_iter().filter(|row| row.path == KEYED_PATH);
    rows.map(|row| {
        let status = row.body["status"].as_str().unwrap_or_default().to_owned();
        (row.body["order_id"].as_i64().unwrap(), status)
    })
    .collect()
}

#[tokio::test]
async fn faults_and_kills_lose_nothing_and_keep_the_order_of_each_key() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let faults = Faults {
        unavailable_percent: 20,
        too_many_percent: 5,
        drop_percent: 5,
        ..Faults::default()
    };
    stage.api.store.set_faults(Faults { retry_after: "0".to_owned(), ..faults });
    let mut sink = stage.sink(QUEUE).await;
    let mut running = deliver(stage.config(), &stage.api.url, "");
    for number in 1..=60 {
        let mut commit = epoch(number);
        for key in 0..20 {
            commit = commit.upserted(key, &number.to_string());
        }
        sink.commit(&commit.build()).await.unwrap();
        running.backlog.add(20);
        if number % 20 == 0 {
            running.kill().await;
            running = deliver(stage.config(), &stage.api.url, "");
        }
    }
    stage.until_delivered().await;
    running.end().await;
    let rows = keyed(&stage.api);
    assert_eq!(rows.len(), 1200, "each idempotency key once");
    for key in 0..20 {
        let of_key = rows.iter().filter(|row| row.0 == key).map(|row| row.1.clone());
        let expected: Vec<String> = (1..=60).map(|number| number.to_string()).collect();
        assert_eq!(of_key.collect::<Vec<_>>(), expected, "key {key}");
    }
    assert!(stage.api.store.stats().duplicates > 0, "answers were lost");
}

#[tokio::test]
async fn a_refused_row_is_a_dead_letter_with_the_answer_and_its_neighbours_go_on() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    stage.api.store.set_faults(Faults { refuse_percent: 100, ..Faults::default() });
    let mut sink = stage.sink(QUEUE).await;
    let running = deliver(stage.config(), &stage.api.url, "");
    sink.commit(&epoch(1).upserted(1, "bad").build()).await.unwrap();
    stage.until_delivered().await;
    stage.api.store.set_faults(Faults::default());
    sink.commit(&epoch(2).upserted(1, "good").build()).await.unwrap();
    stage.until_delivered().await;
    running.end().await;
    assert_eq!(keyed(&stage.api), [(1, "good".to_owned())]);
    let sql = "SELECT original_topic, error_type, phase, error_message, convert_from(original_payload, 'UTF8'), \
        properties ->> 'operation' FROM rest.cdc_dlq";
    let rows = stage.tables.client.query(sql, &[]).await.unwrap();
    let shown: Vec<Vec<String>> =
        rows.iter().map(|row| (0..6).map(|at| row.get(at)).collect()).collect();
    let reason =
        "the API answers 400 Bad Request: {\"error\":\"the fault mode refuses this request\"}";
    let body = r#"{"order_id":1,"status":"bad"}"#;
    assert_eq!(shown, [[KEYED_PATH, "REST_REFUSED", "rest", reason, body, "created"]]);
}

/// An API that fails over every row with this status; over all rows as long as `is_down`.
async fn failing_over(
    status: &'static str,
    is_down: Arc<std::sync::atomic::AtomicBool>,
) -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    let taken: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let (heard, down) = (Arc::clone(&taken), is_down);
    let post = axum::routing::post(move |body: String| {
        let (heard, down) = (Arc::clone(&heard), Arc::clone(&down));
        async move {
            if down.load(std::sync::atomic::Ordering::SeqCst) || body.contains(status) {
                return (axum::http::StatusCode::INTERNAL_SERVER_ERROR, format!("echo: {body}"));
            }
            heard.lock().unwrap().push(body);
            (axum::http::StatusCode::CREATED, String::new())
        }
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback_service(post);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, taken)
}

#[tokio::test]
async fn a_row_that_the_api_fails_over_is_a_dead_letter_and_an_outage_makes_none() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "failing".to_owned()).await;
    let mut sink = stage.sink(QUEUE).await;
    let is_down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (url, taken) = failing_over("poison", Arc::clone(&is_down)).await;
    let commit = epoch(1).upserted(1, "poison").upserted(2, "fine").upserted(3, "fine");
    sink.commit(&commit.build()).await.unwrap();
    let running = deliver(stage.config(), &url, "");
    // Every row fails, many times over: the API is to blame.
    while !running
        .health
        .readiness()
        .conditions
        .get(&Condition::Rest)
        .is_some_and(|r| r.contains("breaker open"))
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&stage.tables.client, "failing.cdc_dlq").await, 0);
    assert_eq!(stage.waiting().await, 3);
    let shown = running.health.readiness().conditions[&Condition::Rest].clone();
    assert!(shown.contains("500") && !shown.contains("poison"), "{shown}");

    is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    // Others come while the bad row is tried.
    let mut number = 1;
    while count(&stage.tables.client, "failing.cdc_dlq").await == 0 {
        number += 1;
        sink.commit(&epoch(number).upserted(number as i64 + 100, "fine").build()).await.unwrap();
    }
    stage.until_delivered().await;
    running.end().await;
    let sql = "SELECT error_type, error_message, convert_from(original_payload, 'UTF8') FROM failing.cdc_dlq";
    let letters = stage.tables.client.query(sql, &[]).await.unwrap();
    assert_eq!(letters.len(), 1);
    let text = |at: usize| letters[0].get::<_, String>(at);
    assert_eq!(text(0), "REST_REFUSED");
    assert!(text(1).contains("500") && text(1).contains("echo: "), "{}", text(1));
    assert!(text(2).contains("poison"), "{}", text(2));
    assert_eq!(taken.lock().unwrap().len() as u64, 2 + number - 1);
}

#[tokio::test]
async fn what_is_sent_once_stays_sent() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let mut sink = Posting { inner: stage.tables.sink(QUEUE).await, sends: Sends::Once };
    let running = deliver(stage.config(), &stage.api.url, "");
    let commits = [
        epoch(1).upserted(1, "first"),
        epoch(2).removed(1),
        epoch(3).upserted(1, "again").upserted(2, "other"),
    ];
    for commit in commits {
        sink.commit(&commit.build()).await.unwrap();
        stage.until_delivered().await;
    }
    running.end().await;
    assert_eq!(keyed(&stage.api), [(1, "first".to_owned()), (2, "other".to_owned())]);
}

#[tokio::test]
async fn what_is_sent_once_is_forgotten_after_its_retention() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let mut sink = Posting { inner: stage.tables.sink(QUEUE).await, sends: Sends::Once };
    let running = deliver(stage.config(), &stage.api.url, "once_retention = '1ms'");
    sink.commit(&epoch(1).upserted(1, "first").build()).await.unwrap();
    while count(&stage.tables.client, "rest.tidemark_outbox").await > 0 {}
    assert_eq!(keyed(&stage.api), [(1, "first".to_owned())]);
    running.end().await;
    let running = deliver(stage.config(), &stage.api.url, "once_retention = '1h'");
    sink.commit(&epoch(2).upserted(2, "second").build()).await.unwrap();
    stage.until_delivered().await;
    running.end().await;
    assert_eq!(count(&stage.tables.client, "rest.tidemark_outbox").await, 1);
}

#[tokio::test]
async fn what_waits_is_found_by_an_index_of_its_own() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    drop(stage.sink(QUEUE).await);
    let client = &stage.tables.client;
    let fill = "INSERT INTO rest.tidemark_outbox (pipeline, epoch, result, path, lane, operation, idempotency_key, body, \
        is_once, delivered_at) SELECT 'conformance', 1, '', '', '', '', i::text, '', true, now() FROM generate_series(1, 20000) i; \
        ANALYZE rest.tidemark_outbox";
    client.batch_execute(fill).await.unwrap();
    let sql = "EXPLAIN SELECT id FROM rest.tidemark_outbox \
        WHERE pipeline = 'conformance' AND id > 0 AND delivered_at IS NULL ORDER BY id LIMIT 1000";
    let plan = client.query(sql, &[]).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("tidemark_outbox_waiting"), "{plan}");
    // An installation of before gets it too, unless the role may not.
    client.batch_execute("DROP INDEX rest.tidemark_outbox_waiting").await.unwrap();
    drop(stage.sink(QUEUE).await);
    let has_index = "SELECT to_regclass('rest.tidemark_outbox_waiting') IS NOT NULL";
    assert!(stage.tables.client.query_one(has_index, &[]).await.unwrap().get::<_, bool>(0));
    let clerk = "CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA rest TO clerk; \
        GRANT ALL ON ALL TABLES IN SCHEMA rest TO clerk; DROP INDEX rest.tidemark_outbox_waiting";
    stage.tables.client.batch_execute(clerk).await.unwrap();
    stage.tables.config = PostgresConfig::from_url(server.url().replace("postgres@", "clerk@"));
    drop(stage.sink(QUEUE).await);
    assert!(!stage.tables.client.query_one(has_index, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn faults_of_the_way_to_the_api_lose_nothing_and_keep_the_order_of_each_key() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let mut sink = stage.sink(QUEUE).await;
    let api_port = stage.api.url.rsplit(':').next().unwrap().parse().unwrap();
    let (to_api, to_postgres) =
        (FaultProxy::start(api_port).await, FaultProxy::start(server.port()).await);
    let time = std::time::Duration::from_millis(500);
    let config = PostgresConfig {
        url: Some(Secret::new(server.url_through(to_postgres.port))),
        statement_timeout: time,
        connect_timeout: time,
        ..stage.config()
    };
    let url = format!("http://127.0.0.1:{}", to_api.port);
    let running = deliver(config, &url, "timeout = '300ms'");
    let steps = [
        (&to_api, "a request", Step::Packet("POST /api/v1/events")),
        (&to_postgres, "reading the outbox", Step::Statement(&["ORDER BY id LIMIT"])),
        (&to_postgres, "settling rows", Step::Statement(&["WITH refused AS"])),
    ];
    let delay = Fault::Delay(std::time::Duration::from_millis(20));
    let faults = [Fault::Cut, Fault::CutAfter, Fault::Reset, Fault::BlackHole, delay];
    let mut number = 0;
    for (proxy, name, step) in steps {
        for fault in faults {
            number += 1;
            let fired = proxy.fired();
            proxy.arm(step.clone(), fault);
            let commit = (0..5).fold(epoch(number), |e, key| e.upserted(key, &number.to_string()));
            sink.commit(&commit.build()).await.unwrap();
            running.backlog.add(5);
            stage.until_delivered().await;
            // One that is cut after its answer may have been delivered before the proxy says so.
            let told = std::time::Instant::now();
            while proxy.fired() == fired {
                assert!(told.elapsed().as_secs() < 60, "{fault:?} at {name}: nothing like it came");
                tokio::task::yield_now().await;
            }
            assert_eq!(keyed(&stage.api).len() as u64, number * 5, "{fault:?} at {name}");
        }
    }
    running.end().await;
    let rows = keyed(&stage.api);
    for key in 0..5 {
        let of_key = rows.iter().filter(|row| row.0 == key).map(|row| row.1.clone());
        let expected: Vec<String> = (1..=number).map(|number| number.to_string()).collect();
        assert_eq!(of_key.collect::<Vec<_>>(), expected, "key {key}");
    }
    assert!(stage.api.store.stats().duplicates > 0, "answers were lost");
    assert_eq!(count(&stage.tables.client, "rest.cdc_dlq").await, 0);
}

#[tokio::test]
async fn an_api_that_is_down_opens_the_breaker_and_its_return_closes_it() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    stage.api.store.set_faults(Faults { unavailable_percent: 100, ..Faults::default() });
    let mut sink = stage.sink(QUEUE).await;
    let running = deliver(stage.config(), &stage.api.url, "outbox_limit = 10");
    let mut commit = epoch(1);
    for key in 0..10 {
        commit = commit.upserted(key, "x");
    }
    sink.commit(&commit.build()).await.unwrap();
    running.backlog.add(10);
    let shown = || running.health.readiness().conditions.get(&Condition::Rest).cloned();
    while !shown().is_some_and(|reason| reason.contains("breaker open")) {
        tokio::task::yield_now().await;
    }
    assert!(shown().unwrap().contains("503"), "{:?}", shown());
    assert!(running.health.readiness().ready, "processing goes on");
    assert!(running.backlog.is_full());
    stage.api.store.set_faults(Faults::default());
    running.backlog.room().await;
    stage.until_delivered().await;
    while shown().is_some() {
        tokio::task::yield_now().await;
    }
    running.end().await;
    assert_eq!(keyed(&stage.api).len(), 10);
    assert_eq!(count(&stage.tables.client, "rest.cdc_dlq").await, 0, "no good row is diverted");
}

#[tokio::test]
async fn only_one_process_delivers_at_a_time() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut stage = RestStage::new(&server, "rest".to_owned()).await;
    let _sink = stage.sink(QUEUE).await;
    let first = Outbox::new(stage.config(), PIPELINE);
    let turn = first.turn().await.unwrap();
    assert!(turn.is_some());
    let second = Outbox::new(stage.config(), PIPELINE);
    assert!(second.turn().await.unwrap().is_none());
    assert!(Outbox::new(stage.config(), "another").turn().await.unwrap().is_some());
    drop(turn);
    while second.turn().await.unwrap().is_none() {}
}
