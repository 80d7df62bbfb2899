use std::collections::VecDeque;
use std::time::Duration;

use futures::poll;

use super::*;
use crate::model::{Offset, Receipt};
use crate::pipeline::epoch::job::Job;
use crate::pipeline::session::committer::{Committer, Jobs};
use crate::pipeline::target_retry::TargetRetry;
use crate::resilience::CircuitBreaker;
use crate::sink::memory::MemoryTarget;
use crate::source::memory::{MemoryAcknowledger, MemoryQueue, MemorySource};

/// An age that no test reaches.
const HOUR: Duration = Duration::from_secs(3600);
const LIMITS: BatchLimits =
    BatchLimits { messages: 100, pressed_messages: 100, bytes: 1 << 20, age: HOUR };

/// A queue that holds messages, a collector that has seen its `Up`, and a committer that does not run yet.
struct Bench {
    queue: MemoryQueue,
    collector: Collector<MemorySource>,
    committer: Committer<MemoryAcknowledger>,
    jobs: Jobs,
    in_flight: InFlight,
    shutdown: CancellationToken,
}

impl Bench {
    async fn new(limits: BatchLimits, payloads: &[&'static str]) -> Self {
        let queue = MemoryQueue::new(7, 100);
        let source = queue.bind();
        let sink = Box::new(MemoryTarget::default().sink("p", "q"));
        let health = Health::default();
        let retry = TargetRetry::new(CircuitBreaker::default(), health.clone(), "write");
        let (committer, jobs) = Committer::new(sink, source.acknowledger(), retry, health);
        let collector = Collector::new(source, limits);
        let (in_flight, shutdown) = (jobs.in_flight(), CancellationToken::new());
        let mut bench = Self { queue, collector, committer, jobs, in_flight, shutdown };
        assert!(matches!(bench.next().await, Collected::Event(SourceEvent::Up)));
        bench.push(payloads);
        bench
    }

    fn push(&self, payloads: &[&'static str]) {
        for payload in payloads {
            self.queue.push("t", *payload);
        }
    }

    async fn next(&mut self) -> Collected {
        self.collector.next(&mut self.in_flight, &self.shutdown).await.unwrap()
    }

    async fn next_batch(&mut self) -> Vec<String> {
        payloads(self.next().await)
    }

    /// An epoch that waits for its commit.
    async fn send_job(&self) {
        self.jobs.send(Job { commit: None, receipts: Vec::new() }).await.unwrap();
    }
}

fn payloads(collected: Collected) -> Vec<String> {
    let Collected::Batch(messages) = collected else { panic!("{collected:?}") };
    let text = |message: Message| String::from_utf8(message.payload.to_vec()).unwrap();
    messages.into_iter().map(text).collect()
}

#[tokio::test]
async fn a_batch_closes_when_it_has_enough_messages() {
    let limits = BatchLimits { messages: 2, pressed_messages: 2, ..LIMITS };
    let mut bench = Bench::new(limits, &["a", "b", "c", "d", "e"]).await;
    assert_eq!(bench.next_batch().await, ["a", "b"]);
    assert_eq!(bench.next_batch().await, ["c", "d"]);
    assert!(poll!(Box::pin(bench.next())).is_pending());
    bench.push(&["f"]);
    assert_eq!(bench.next_batch().await, ["e", "f"]);
}

#[tokio::test]
async fn batches_are_larger_while_messages_come_faster_than_they_are_processed() {
    let limits = BatchLimits { messages: 2, pressed_messages: 4, ..LIMITS };
    let mut bench = Bench::new(limits, &[]).await;
    bench.queue.set_room(5);
    bench.push(&["a", "b", "c", "d", "e"]);
    assert_eq!(bench.next_batch().await, ["a", "b", "c", "d"]);
    bench.push(&["f", "g"]);
    assert_eq!(bench.next_batch().await, ["e", "f"]);
}

#[tokio::test]
async fn a_batch_closes_with_the_message_that_reaches_the_bytes() {
    let limits = BatchLimits { bytes: 10, ..LIMITS };
    let mut bench = Bench::new(limits, &["aaaa", "bbbb", "cccc", "dddddddddddd", "eeee"]).await;
    assert_eq!(bench.next_batch().await, ["aaaa", "bbbb", "cccc"]);
    assert_eq!(bench.next_batch().await, ["dddddddddddd"]);
    assert!(poll!(Box::pin(bench.next())).is_pending());
    bench.push(&["ffffff"]);
    assert_eq!(bench.next_batch().await, ["eeee", "ffffff"]);
}

#[tokio::test]
async fn nothing_is_taken_beside_a_large_batch_until_that_is_committed() {
    let large: &str = "a".repeat(30).leak();
    let mut bench = Bench::new(BatchLimits { bytes: 10, ..LIMITS }, &[large]).await;
    assert_eq!(bench.next_batch().await, [large]);
    bench.send_job().await;
    bench.push(&["b"]);
    let Bench { queue, mut collector, committer, mut in_flight, shutdown, jobs: _jobs } = bench;
    let mut next = Box::pin(collector.next(&mut in_flight, &shutdown));
    assert!(poll!(next.as_mut()).is_pending());
    assert_eq!(queue.waiting(), 1);
    tokio::spawn(committer.run(shutdown.clone()));
    assert_eq!(payloads(next.await.unwrap()), ["b"]);
}

#[tokio::test]
async fn a_batch_closes_when_its_first_message_is_old_enough() {
    let age = Duration::from_millis(20);
    let mut bench = Bench::new(BatchLimits { age, ..LIMITS }, &["a"]).await;
    let started = Instant::now();
    assert_eq!(bench.next_batch().await, ["a"]);
    assert!(started.elapsed() >= age, "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_empty_batch_does_not_close_and_a_dropped_wait_loses_nothing() {
    let age = Duration::from_millis(1);
    let mut bench = Bench::new(BatchLimits { age, ..LIMITS }, &[]).await;
    bench.send_job().await;
    let committer =
        std::mem::replace(&mut bench.committer, Bench::new(LIMITS, &[]).await.committer);
    tokio::spawn(committer.run(CancellationToken::new()));
    // The commit is done and ages pass, but there is nothing to close.
    let waited = tokio::time::timeout(Duration::from_millis(50), bench.next()).await;
    assert!(waited.is_err() && bench.in_flight.is_empty());
    bench.push(&["a"]);
    assert_eq!(bench.next_batch().await, ["a"]);
}

#[tokio::test]
async fn a_batch_closes_as_soon_as_the_commit_before_it_is_done() {
    let bench = Bench::new(LIMITS, &["a", "b"]).await;
    bench.send_job().await;
    let Bench { mut collector, committer, mut in_flight, shutdown, jobs: _jobs, .. } = bench;
    let mut next = Box::pin(collector.next(&mut in_flight, &shutdown));
    assert!(poll!(next.as_mut()).is_pending());
    tokio::spawn(committer.run(shutdown.clone()));
    assert_eq!(payloads(next.await.unwrap()), ["a", "b"]);
}

#[tokio::test]
async fn a_change_of_the_connection_ends_the_batch_and_comes_after_it() {
    let mut bench = Bench::new(LIMITS, &["a"]).await;
    assert!(poll!(Box::pin(bench.next())).is_pending());
    bench.queue.reconnect("cable cut");
    assert_eq!(bench.next_batch().await, ["a"]);
    let Collected::Event(SourceEvent::Down { reason }) = bench.next().await else { panic!("down") };
    assert_eq!(reason, "cable cut");
    assert!(matches!(bench.next().await, Collected::Event(SourceEvent::Up)));
    bench.queue.end();
    let Collected::Batch(again) = bench.next().await else { panic!("the message comes again") };
    assert!(again.len() == 1 && again[0].redelivered, "{again:?}");
}

#[tokio::test]
async fn shutdown_leaves_the_open_batch_to_the_broker() {
    let mut bench = Bench::new(LIMITS, &["a"]).await;
    assert!(poll!(Box::pin(bench.next())).is_pending());
    bench.push(&["b"]);
    bench.shutdown.cancel();
    assert!(matches!(bench.next().await, Collected::Cancelled));
    drop(bench.collector);
    let mut source = bench.queue.bind();
    bench.queue.end();
    let mut events = Vec::new();
    source.recv_many(&mut events, 10).await.unwrap();
    let redelivered = events.iter().filter_map(|event| match event {
        SourceEvent::Message(message) => Some(message.redelivered),
        SourceEvent::Up | SourceEvent::Standby | SourceEvent::Down { .. } => None,
    });
    assert_eq!(redelivered.collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn the_end_of_the_source_comes_after_its_last_batch() {
    let mut bench = Bench::new(LIMITS, &["a"]).await;
    bench.queue.end();
    assert_eq!(bench.next_batch().await, ["a"]);
    assert!(matches!(bench.next().await, Collected::Ended));
}

/// Hands out what it is told to, a receive at a time, and ends.
struct Script(VecDeque<Vec<SourceEvent>>);

impl Source for Script {
    type Acknowledger = MemoryAcknowledger;

    async fn recv_many(
        &mut self,
        buffer: &mut Vec<SourceEvent>,
        _: usize,
    ) -> Result<usize, SourceError> {
        let events = self.0.pop_front().unwrap_or_default();
        let count = events.len();
        buffer.extend(events);
        Ok(count)
    }

    fn acknowledger(&self) -> MemoryAcknowledger {
        MemoryQueue::new(7, 1).bind().acknowledger()
    }
}

fn script(receives: Vec<Vec<SourceEvent>>) -> Collector<Script> {
    Collector::new(Script(receives.into()), LIMITS)
}

fn message(payload: &'static str) -> SourceEvent {
    SourceEvent::Message(Message {
        offset: Offset::new(7, 1),
        receipt: Receipt { flow: 1, id: 1 },
        topic: "t".to_owned(),
        payload: payload.into(),
        redelivered: false,
        properties: Vec::new(),
    })
}

#[tokio::test]
async fn waiting_for_the_queue_outlasts_losses_and_drops_what_will_come_again() {
    let down = SourceEvent::Down { reason: "cut".to_owned() };
    let mut collector = script(vec![
        vec![SourceEvent::Standby],
        vec![SourceEvent::Up, message("lost"), down],
        vec![SourceEvent::Up, message("a")],
    ]);
    assert!(collector.wait_until_up(&Health::default()).await.unwrap());
    let bench = Bench::new(LIMITS, &[]).await;
    let (mut in_flight, shutdown) = (bench.in_flight, CancellationToken::new());
    assert_eq!(payloads(collector.next(&mut in_flight, &shutdown).await.unwrap()), ["a"]);
    assert!(!script(vec![]).wait_until_up(&Health::default()).await.unwrap());
}

#[tokio::test]
async fn several_changes_in_one_receive_come_one_by_one_in_their_order() {
    let mut collector =
        script(vec![vec![message("a"), SourceEvent::Standby, SourceEvent::Up, message("b")]]);
    let bench = Bench::new(LIMITS, &[]).await;
    let (mut in_flight, shutdown) = (bench.in_flight, CancellationToken::new());
    let mut seen = Vec::new();
    loop {
        match collector.next(&mut in_flight, &shutdown).await.unwrap() {
            Collected::Event(event) => seen.push(format!("{event:?}")),
            Collected::Ended => break,
            Collected::Cancelled => panic!("nobody cancelled"),
            batch @ Collected::Batch(_) => seen.extend(payloads(batch)),
        }
    }
    assert_eq!(seen, ["a", "Standby", "Up", "b"]);
}
