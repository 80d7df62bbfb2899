//! Events to a broker, at a rate.

mod backpressure;
mod neighbours;
mod record;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use tidemark_base::{Recovery, chain};
use tidemark_solace::{Failure, Outgoing, PublishConfig, PublishError, Publisher};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::generator::{Config, Event, Generator, GeneratorError, SalesTable};
use backpressure::Backpressure;
use neighbours::Neighbours;
use record::Record;

/// Partitioned queues keep messages with the same value of this user property in order.
const PARTITION_KEY: &str = "JMSXGroupID";
/// Events that are sent in one go when nothing limits the rate.
const CHUNK: u64 = 1_000;
/// How often a limited rate is topped up.
const TICK: Duration = Duration::from_millis(20);
/// Between two attempts to reach a broker that is not there.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// How long a cancelled run waits for the answers to what it has sent.
const GRACE: Duration = Duration::from_secs(10);

/// What became of a run.
#[derive(Debug, Clone, Default)]
pub struct Published {
    pub sent: u64,
    /// The broker has stored them.
    pub acknowledged: u64,
    /// The broker did not want them.
    pub rejected: u64,
    /// The first rejections: the number of the message in this run, and the broker's reason.
    pub rejections: Vec<(u64, Failure)>,
    /// The numbers of all rejected messages, as runs of first and last one.
    pub rejected_runs: Vec<RangeInclusive<u64>>,
    /// Messages that the broker has stored for other queues.
    pub neighbours: u64,
    pub per_table: BTreeMap<SalesTable, u64>,
}

impl Published {
    /// Everything that was sent is stored.
    pub fn is_complete(&self) -> bool {
        self.acknowledged == self.sent
    }
}

/// Publishes until the configured end or until `cancel`, and waits for the broker's answers.
///
/// Messages that the broker rejects are counted, not retried. A broken connection is restored, and what was
/// not acknowledged is sent again; a broker that is not there, at first or later, is waited for until `cancel`.
///
/// # Errors
/// If the broker refuses the login, or a message cannot be expressed.
pub async fn publish(
    config: &Config,
    broker: &PublishConfig,
    cancel: CancellationToken,
) -> Result<Published, GeneratorError> {
    let connected = cancel.run_until_cancelled(connect(broker)).await;
    let Some(publisher) = connected.transpose()?.map(Arc::new) else {
        return Ok(Published::default());
    };
    let neighbours = if config.neighbours > 0.0 {
        cancel.run_until_cancelled(connect(broker)).await.transpose()?
    } else {
        None
    };
    let neighbours = neighbours.map(|publisher| Neighbours::new(publisher, config.neighbours));
    let record = config.record.as_deref().map(Record::open).transpose()?;
    let feed = Feed { generator: Generator::new(config), neighbours, record };
    let mut run = Run::new(feed, Arc::clone(&publisher), cancel.clone());
    let progress = progress_bar(config.events);
    tokio::select! {
        // A result that is there counts, cancelled or not.
        biased;
        ended = run.send_all_and_wait(config, &progress) => ended?,
        () = grace_after(&cancel) => {}
    }
    progress.finish_and_clear();
    let settled = publisher.settled();
    Ok(Published {
        sent: run.sent(),
        acknowledged: settled.acknowledged,
        rejected: settled.rejected,
        rejections: settled.rejections,
        rejected_runs: settled.rejected_runs,
        neighbours: run.neighbours,
        per_table: run.per_table,
    })
}

/// Connects, again and again while the broker cannot be reached.
async fn connect(broker: &PublishConfig) -> Result<Publisher, PublishError> {
    let mut is_told = false;
    loop {
        match Publisher::connect(broker).await {
            Err(error) if error.recovery() == Recovery::Retry => {
                if !is_told {
                    warn!(error = chain(&error), "waiting for the broker");
                }
                is_told = true;
                tokio::time::sleep(RETRY_WAIT).await;
            }
            decided => return decided,
        }
    }
}

/// Shown on a terminal only.
fn progress_bar(events: Option<u64>) -> ProgressBar {
    let (bar, template) = match events {
        Some(events) => {
            (ProgressBar::new(events), "{bar:40} {pos}/{len} events, {per_sec}, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {pos} events, {per_sec}, {elapsed}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

async fn grace_after(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Where events come from, and what goes with them.
struct Feed {
    generator: Generator,
    neighbours: Option<Neighbours>,
    record: Option<Record>,
}

struct Run {
    publisher: Arc<Publisher>,
    cancel: CancellationToken,
    /// Away while a chunk is being sent.
    feed: Option<Feed>,
    neighbours: u64,
    /// Counted where it is sent: a chunk may hang in the library when the run is cancelled.
    sent: Arc<AtomicU64>,
    per_table: BTreeMap<SalesTable, u64>,
}

impl Run {
    fn new(feed: Feed, publisher: Arc<Publisher>, cancel: CancellationToken) -> Self {
        let (feed, sent) = (Some(feed), Arc::default());
        Self { publisher, cancel, feed, neighbours: 0, sent, per_table: BTreeMap::new() }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    async fn send_all_and_wait(
        &mut self,
        config: &Config,
        progress: &ProgressBar,
    ) -> Result<(), GeneratorError> {
        let started = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        let is_over = |cancel: &CancellationToken| {
            cancel.is_cancelled() || config.duration.is_some_and(|end| started.elapsed() >= end)
        };
        let mut backpressure = config.heed.clone().map(Backpressure::new);
        while !is_over(&self.cancel) {
            if let Some(backpressure) = &mut backpressure {
                backpressure.pause(&self.cancel).await;
            }
            // What a pause has left out is not made up for.
            let paused = backpressure.as_ref().map_or(Duration::ZERO, |seen| seen.paused);
            let elapsed = started.elapsed() - paused;
            let burst = config.bursts.map_or(0, |bursts| bursts.due_after(elapsed));
            let due = match config.rate.due_after(elapsed) {
                Some(due) => (due + burst).saturating_sub(self.sent()).min(CHUNK),
                None => CHUNK,
            };
            if due > 0 && self.send(due).await? < due {
                break;
            }
            progress.set_position(self.sent());
            if due < CHUNK {
                tick.tick().await;
            }
        }
        self.publisher.wait_until_settled(self.sent()).await;
        if let Some(Feed { neighbours, record, .. }) = &mut self.feed {
            if let Some(neighbours) = neighbours {
                self.neighbours = neighbours.settle().await.acknowledged;
            }
            record.as_mut().map_or(Ok(()), Record::close)?;
        }
        Ok(())
    }

    /// Sends up to `count` events; fewer means that there are no more, or that it was cancelled.
    async fn send(&mut self, count: u64) -> Result<u64, GeneratorError> {
        let Some(mut feed) = self.feed.take() else { return Ok(0) };
        let (publisher, cancel) = (Arc::clone(&self.publisher), self.cancel.clone());
        let sent = Arc::clone(&self.sent);
        let sending = tokio::task::spawn_blocking(move || {
            let mut tables = Vec::new();
            let mut outcome = Ok(());
            let Feed { generator, neighbours, record } = &mut feed;
            for event in generator.by_ref().take(count as usize) {
                outcome = send_event(&publisher, sent.load(Ordering::Relaxed), &event)
                    .map_err(GeneratorError::from);
                if outcome.is_err() {
                    break;
                }
                sent.fetch_add(1, Ordering::Relaxed);
                tables.push(event.table);
                outcome = accompany(neighbours.as_mut(), record.as_mut(), &event);
                if outcome.is_err() || cancel.is_cancelled() {
                    break;
                }
            }
            (feed, tables, outcome)
        });
        let (feed, tables, outcome) =
            sending.await.expect("generating does not panic, and the runtime outlives the run");
        self.feed = Some(feed);
        for table in &tables {
            *self.per_table.entry(*table).or_default() += 1;
        }
        outcome?;
        Ok(tables.len() as u64)
    }
}

/// What goes with an event that was sent.
fn accompany(
    neighbours: Option<&mut Neighbours>,
    record: Option<&mut Record>,
    event: &Event,
) -> Result<(), GeneratorError> {
    record.map_or(Ok(()), |record| record.add(event))?;
    Ok(neighbours.map_or(Ok(()), Neighbours::follow)?)
}

fn send_event(publisher: &Publisher, number: u64, event: &Event) -> Result<(), PublishError> {
    let sent_at = Utc::now();
    let message = Outgoing {
        topic: &event.topic,
        payload: &event.payload,
        properties: &[(PARTITION_KEY.to_owned(), event.key.clone())],
        id: &format!("generator-{}-{number}", sent_at.timestamp_micros()),
        sent_at_ms: sent_at.timestamp_millis(),
    };
    publisher.send(number, &message)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tidemark_base::Secret;
    use tidemark_broker::{Config as BrokerConfig, QueueConfig};
    use tokio::net::TcpListener;

    use super::*;
    use crate::generator::Rate;

    fn target(address: SocketAddr) -> PublishConfig {
        PublishConfig {
            host: format!("tcp://{address}"),
            vpn: "default".to_owned(),
            username: "u".to_owned(),
            password: Secret::new("p"),
            window: 255,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_comes_later_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let early = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = early.local_addr().unwrap();
        let queue = QueueConfig {
            name: "cdc".to_owned(),
            topics: vec!["cdc/oracle/>".to_owned()],
            ..QueueConfig::default()
        };
        let broker = BrokerConfig {
            listen: address,
            data_dir: folder.path().to_owned(),
            queues: vec![queue],
            ..BrokerConfig::default()
        };
        let stop = CancellationToken::new();
        let serving = async {
            // The first attempt meets somebody who hangs up.
            drop(early.accept().await.unwrap());
            drop(early);
            let listener = TcpListener::bind(address).await.unwrap();
            tidemark_broker::run(broker, listener, stop.clone()).await.unwrap();
        };
        let config = Config { rate: Rate::Max, events: Some(50), ..Config::default() };
        let publishing = async {
            let published = publish(&config, &target(address), CancellationToken::new()).await;
            stop.cancel();
            published.unwrap()
        };
        let (published, ()) = tokio::join!(publishing, serving);
        assert_eq!((published.sent, published.acknowledged), (50, 50));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn neighbours_are_published_beside_what_is_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let queue = |name: &str, topic: &str| QueueConfig {
            name: name.to_owned(),
            topics: vec![topic.to_owned()],
            ..QueueConfig::default()
        };
        let broker = BrokerConfig {
            listen: address,
            data_dir: folder.path().join("broker"),
            queues: vec![queue("cdc", "cdc/>"), queue("neighbours", "neighbours/>")],
            ..BrokerConfig::default()
        };
        let stop = CancellationToken::new();
        let path = folder.path().join("published.ndjson");
        let config = Config {
            rate: Rate::Max,
            events: Some(200),
            start_time: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            neighbours: 0.25,
            record: Some(path.clone()),
            ..Config::default()
        };
        let publishing = async {
            let published = publish(&config, &target(address), CancellationToken::new()).await;
            stop.cancel();
            published.unwrap()
        };
        let (published, ()) = tokio::join!(publishing, async {
            tidemark_broker::run(broker, listener, stop.clone()).await.unwrap();
        });
        assert_eq!((published.acknowledged, published.neighbours), (200, 50));
        let whole = folder.path().join("whole.ndjson");
        crate::generator::write_ndjson(&config, &whole).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), std::fs::read(whole).unwrap());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn waiting_for_a_broker_ends_when_it_is_cancelled() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let cancel = CancellationToken::new();
        cancel.cancel();
        let published = publish(&Config::default(), &target(nobody), cancel).await.unwrap();
        assert_eq!(published.sent, 0);
    }
}
