//! The outbox and its delivery, against a real PostgreSQL and an API in this process.

mod access;
mod outages;
mod rows;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use tidemark::model::{
    Changelog, Channel, CommittedEpoch, EpochCommit, EventId, LedgerPosition, Offset, OffsetSet,
    Payload, RestChannel, ResultTable, Sends, Table,
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

    async fn committed_since(
        &mut self,
        kept: &CommittedEpoch,
    ) -> Result<Option<OffsetSet>, SinkError> {
        self.inner.committed_since(kept).await
    }

    async fn each_change(
        &mut self,
        table: &Arc<Table>,
        messages: &OffsetSet,
        take: TakeRows<'_>,
    ) -> Result<(), SinkError> {
        self.inner.each_change(table, messages, take).await
    }

    async fn history(
        &mut self,
        table: &Arc<Table>,
        keys: &arrow::array::RecordBatch,
    ) -> Result<Vec<Changelog>, SinkError> {
        self.inner.history(table, keys).await
    }

    async fn committed(&mut self, events: &[EventId]) -> Result<HashSet<Offset>, SinkError> {
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
