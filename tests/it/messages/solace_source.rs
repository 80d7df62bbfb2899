//! The Solace source against the development broker, through the vendor's client library.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tidemark::model::Offset;
use tidemark::resilience::{Recovery, chain};
use tidemark::source::conformance::{self, TestQueue, numbered, take};
use tidemark::source::solace::{
    Access, Outgoing, PublishConfig, Publisher, SolaceConfig, SolaceError, SolaceSource,
};
use tidemark::source::{Source, SourceError, SourceEvent};
use tidemark_base::Secret;
use tidemark_broker::{self as broker, Password};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct RunningBroker {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningBroker {
    async fn start(data: &Path, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = broker::Config {
            listen: address,
            data_dir: data.to_owned(),
            users: [("u".to_owned(), Password::new("p").into())].into(),
            ..broker::Config::default()
        };
        let stop = CancellationToken::new();
        let running = broker::run(config, listener, stop.clone());
        let task = tokio::spawn(async move { running.await.unwrap() });
        Self { address, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    fn source(&self, queue: &str) -> SolaceConfig {
        SolaceConfig {
            host: format!("tcp://{}", self.address),
            vpn: "default".to_owned(),
            username: "u".to_owned(),
            password: Secret::new("p"),
            queue: queue.to_owned(),
            provision: true,
            topics: vec![format!("{queue}/>")],
            access: Access::Exclusive,
            window: 255,
            max_unacked: 100,
            client_name: None,
            max_buffered: None,
            connect_timeout: Duration::from_secs(30),
            reconnect_wait: Duration::from_millis(200),
            semp: None,
            keep_alive: Duration::from_secs(1),
        }
    }

    async fn publisher(&self) -> Publisher {
        let config = PublishConfig {
            host: format!("tcp://{}", self.address),
            vpn: "default".to_owned(),
            username: "u".to_owned(),
            password: Secret::new("p"),
            window: 255,
        };
        Publisher::connect(&config).await.unwrap()
    }
}

async fn publish(publisher: &Publisher, queue: &str, payloads: &[String]) {
    let before = publisher.settled().count();
    let properties = [("JMSXGroupID".to_owned(), "k".to_owned())];
    for (number, payload) in payloads.iter().enumerate() {
        let message = Outgoing {
            topic: &format!("{queue}/x"),
            payload: payload.as_bytes(),
            properties: &properties,
            id: payload,
            sent_at_ms: 1,
        };
        tokio::task::block_in_place(|| publisher.send(number as u64, &message)).unwrap();
    }
    publisher.wait_until_settled(before + payloads.len() as u64).await;
    assert_eq!(publisher.settled().rejected, 0);
}

async fn until_up(source: &mut SolaceSource) {
    while !matches!(source.recv().await.unwrap(), Some(SourceEvent::Up)) {}
}

/// A queue of its own on a shared broker.
struct BrokerQueue<'broker> {
    broker: &'broker RunningBroker,
    publisher: Publisher,
    name: String,
}

impl<'broker> BrokerQueue<'broker> {
    async fn new(broker: &'broker RunningBroker) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("q{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut source = SolaceSource::start(broker.source(&name));
        until_up(&mut source).await;
        source.close().await;
        Self { broker, publisher: broker.publisher().await, name }
    }
}

impl TestQueue for BrokerQueue<'_> {
    type Source = SolaceSource;

    async fn publish(&self, payloads: &[String]) {
        publish(&self.publisher, &self.name, payloads).await;
    }

    async fn bind(&self) -> SolaceSource {
        SolaceSource::start(self.broker.source(&self.name))
    }

    async fn release(&self, source: SolaceSource) {
        source.close().await;
    }

    fn max_unacked(&self) -> usize {
        100
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_solace_source_keeps_the_promises_of_a_source() {
    let data = TempDir::new().unwrap();
    let broker = RunningBroker::start(data.path(), "127.0.0.1:0").await;
    let queue = || BrokerQueue::new(&broker);
    conformance::messages_come_in_order_with_rising_offsets(&queue().await).await;
    conformance::unacknowledged_messages_come_again_under_the_same_offsets(&queue().await).await;
    conformance::acknowledged_messages_do_not_come_again(&queue().await).await;
    conformance::foreign_receipts_acknowledge_nothing(&queue().await).await;
    conformance::a_dropped_receive_loses_nothing(&queue().await).await;
    conformance::acknowledging_makes_room_for_more(&queue().await).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_and_text_properties_arrive() {
    let data = TempDir::new().unwrap();
    let broker = RunningBroker::start(data.path(), "127.0.0.1:0").await;
    let queue = BrokerQueue::new(&broker).await;
    queue.publish(&[String::new()]).await;
    let mut source = queue.bind().await;
    let tombstone = take(&mut source, 1).await.remove(0);
    assert!(tombstone.payload.is_empty());
    assert_eq!(tombstone.topic, format!("{}/x", queue.name));
    assert_eq!(tombstone.properties, [("JMSXGroupID".to_owned(), "k".to_owned())]);
    source.close().await;
    broker.stop().await;
}

async fn first_error(config: SolaceConfig) -> SourceError {
    let mut source = SolaceSource::start(config);
    loop {
        if let Err(error) = source.recv().await {
            return error;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_configuration_stop_with_the_brokers_words() {
    let data = TempDir::new().unwrap();
    let broker = RunningBroker::start(data.path(), "127.0.0.1:0").await;
    let wrong = SolaceConfig { password: Secret::new("x"), ..broker.source("q") };
    let error = first_error(wrong).await;
    assert!(matches!(error, SourceError::Solace(SolaceError::LoginRefused { .. })), "{error}");
    assert!(chain(&error).contains("Unauthorized"), "{}", chain(&error));
    let missing = SolaceConfig { provision: false, topics: Vec::new(), ..broker.source("none") };
    let error = first_error(missing).await;
    assert!(matches!(error, SourceError::Solace(SolaceError::UnknownQueue { .. })), "{error}");
    assert_eq!(error.recovery(), Recovery::Stop);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_broker_is_found_again_without_loss() {
    let data = TempDir::new().unwrap();
    let broker = RunningBroker::start(data.path(), "127.0.0.1:0").await;
    let address = broker.address.to_string();
    let queue = BrokerQueue::new(&broker).await;
    queue.publish(&numbered(0, 50)).await;
    let (name, config) = (queue.name.clone(), broker.source(&queue.name));
    let mut source = SolaceSource::start(config);
    let mut seen: BTreeSet<Offset> =
        take(&mut source, 20).await.iter().map(|message| message.offset).collect();
    drop(queue);
    broker.stop().await;
    loop {
        match source.recv().await.unwrap() {
            Some(SourceEvent::Message(message)) => seen.insert(message.offset),
            Some(SourceEvent::Down { .. }) => break,
            Some(SourceEvent::Up | SourceEvent::Standby) | None => continue,
        };
    }
    let broker = RunningBroker::start(data.path(), &address).await;
    publish(&broker.publisher().await, &name, &numbered(50, 1)).await;
    while seen.len() < 51 {
        seen.extend(take(&mut source, 1).await.iter().map(|message| message.offset));
    }
    source.close().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_count_while_the_broker_is_away() {
    let data = TempDir::new().unwrap();
    let broker = RunningBroker::start(data.path(), "127.0.0.1:0").await;
    let address = broker.address.to_string();
    let queue = BrokerQueue::new(&broker).await;
    queue.publish(&numbered(0, 20)).await;
    let (name, mut source) = (queue.name.clone(), queue.bind().await);
    let messages = take(&mut source, 20).await;
    drop(queue);
    broker.stop().await;
    while !matches!(source.recv().await.unwrap(), Some(SourceEvent::Down { .. })) {}
    source.acknowledger().ack(messages.iter().map(|message| message.receipt).collect()).await;
    let broker = RunningBroker::start(data.path(), &address).await;
    until_up(&mut source).await;
    source.close().await;
    publish(&broker.publisher().await, &name, &numbered(20, 1)).await;
    let mut next = SolaceSource::start(broker.source(&name));
    assert_eq!(*take(&mut next, 1).await[0].payload, *b"20");
    next.close().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_when_the_active_consumer_leaves() {
    let data = TempDir::new().unwrap();
    let broker = RunningBroker::start(data.path(), "127.0.0.1:0").await;
    let queue = BrokerQueue::new(&broker).await;
    let mut active = queue.bind().await;
    until_up(&mut active).await;
    let mut standby = queue.bind().await;
    assert!(matches!(standby.recv().await.unwrap(), Some(SourceEvent::Standby)));
    queue.publish(&numbered(0, 3)).await;
    assert_eq!(take(&mut active, 3).await.len(), 3);
    active.close().await;
    until_up(&mut standby).await;
    let again = take(&mut standby, 3).await;
    assert!(again.iter().all(|message| message.redelivered));
    standby.close().await;
    broker.stop().await;
}
