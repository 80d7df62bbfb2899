//! The loop from queue to target, without a broker.

use std::collections::VecDeque;
use std::time::Duration;

use bytesize::ByteSize;
use tokio_util::sync::CancellationToken;

use super::batch::Collector;
use super::carry_over::CarryOver;
use super::committer::Committer;
use super::end::SessionEnd;
use super::running::is_overtaken;
use super::session_loop::SessionLoop;
use crate::checkpoint::CheckpointConfig;
use crate::config::BatchLimits;
use crate::model::{Changelog, Epoch};
use crate::pipeline::error::CommitError;
use crate::pipeline::history::KnownHistory;
use crate::pipeline::target_retry::TargetRetry;
use crate::pipeline::tasks::replay_watcher::ReplayWatcher;
use crate::pipeline::tasks::sql_watcher::SqlWatcher;
use crate::pipeline::tasks::target_watcher::TargetWatcher;
use crate::pipeline::tests::{event, processor, row, sql};
use crate::resilience::CircuitBreaker;
use crate::sink::memory::MemoryTarget;
use crate::sink::{Sink, conformance};
use crate::source::Source;
use crate::source::memory::{MemoryQueue, MemorySource};
use crate::telemetry::{Condition, Health};

const LIMITS: BatchLimits =
    BatchLimits { messages: 3, pressed_messages: 3, bytes: 1 << 20, age: Duration::from_millis(5) };

/// Long; reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn carry_over() -> CarryOver {
    let history = KnownHistory::new("sales", &CheckpointConfig::default(), None);
    CarryOver::new(None, SqlWatcher::never(), ReplayWatcher::never(), history)
}

/// A loop over the shipped SQL, and its committer.
async fn started(
    queue: &MemoryQueue,
    target: &MemoryTarget,
) -> (SessionLoop<MemorySource>, tokio::task::JoinHandle<Result<(), CommitError>>) {
    let (processor, sink) = processor(&sql().await, target).await;
    let source = queue.bind();
    let acknowledger = source.acknowledger();
    let health = Health::default();
    let retry = TargetRetry::new(CircuitBreaker::default(), health.clone(), "write");
    let (committer, jobs) = Committer::new(Box::new(sink), acknowledger, retry, health.clone());
    let committer = tokio::spawn(async { committer.run(CancellationToken::new()).await.result });
    let collector = Collector::new(source, LIMITS);
    let session_loop = SessionLoop {
        collector,
        processor,
        jobs,
        target_watcher: TargetWatcher::never(),
        health,
        shutdown: CancellationToken::new(),
        has_stood_by: false,
        is_forgotten: CancellationToken::new(),
        backlog: Vec::new(),
        in_flight: VecDeque::new(),
    };
    (session_loop, committer)
}

fn push(queue: &MemoryQueue, ids: std::ops::Range<u8>) {
    for payload in ids.map(|id| event(0, "c", "null", &row(0, id, 1, id))) {
        queue.push("cdc/oracle", payload);
    }
}

#[tokio::test]
async fn every_message_is_committed_once_and_then_acknowledged() {
    let (queue, target) = (MemoryQueue::new(7, 100), MemoryTarget::default());
    push(&queue, 0..10);
    queue.end();
    let (mut going, committer) = started(&queue, &target).await;
    let ended = going.run(&mut carry_over()).await;
    assert!(matches!(ended, SessionEnd::Drained), "{ended:?}");
    drop(going.jobs);
    committer.await.unwrap().unwrap();
    assert_eq!(queue.depth(), 0);
    let rows: usize = target.landed("cdc_orders").iter().map(Changelog::len).sum();
    assert_eq!(rows, 10);
    let epochs: Vec<u64> = target.ledger("sales").iter().map(|row| row.epoch.0).collect();
    assert!(
        epochs.len() >= 4 && epochs.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{epochs:?}"
    );
}

#[tokio::test]
async fn a_committer_that_stops_ends_the_loop_also_on_a_quiet_queue() {
    let (queue, target) = (MemoryQueue::new(7, 100), MemoryTarget::default());
    let (mut going, committer) = started(&queue, &target).await;
    // Another processor commits the epochs that this one would.
    let mut other = conformance::epoch(1).created(1, 1, "theirs").build();
    other.epoch = Epoch(1_000);
    let mut competitor = target.sink("sales", "cdc");
    competitor.resume().await.unwrap();
    competitor.commit(&other).await.unwrap();
    push(&queue, 0..1);
    let ended = tokio::time::timeout(PATIENCE, going.run(&mut carry_over())).await;
    assert!(matches!(ended, Ok(SessionEnd::CommitterStopped)), "{ended:?}");
    let error = committer.await.unwrap().unwrap_err();
    assert!(is_overtaken(&error, going.has_stood_by), "{error:?}");
    assert_eq!(queue.depth(), 1);
}

#[tokio::test]
async fn beyond_the_memory_limit_no_more_messages_are_taken_until_somebody_acts() {
    let (queue, target) = (MemoryQueue::new(7, 100), MemoryTarget::default());
    let (mut going, committer) = started(&queue, &target).await;
    going.processor.limit_memory(ByteSize::kib(1));
    push(&queue, 0..90);
    let (health, shutdown) = (going.health.clone(), going.shutdown.clone());
    let mut carry_over = carry_over();
    let blocked = async {
        while !health.readiness().conditions.contains_key(&Condition::Memory) {
            tokio::task::yield_now().await;
        }
        let condition = health.readiness().conditions[&Condition::Memory].clone();
        shutdown.cancel();
        condition
    };
    let run = going.run(&mut carry_over);
    let both = async { tokio::join!(run, blocked) };
    let (ended, condition) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(matches!(ended, SessionEnd::Shutdown), "{ended:?}");
    assert!(condition.contains("state.memory is 1.0 KiB ("), "{condition}");
    drop(going.jobs);
    committer.await.unwrap().unwrap();
    let rows: usize = target.landed("cdc_orders").iter().map(Changelog::len).sum();
    assert!((1..90).contains(&rows), "{rows} rows");
    // What was processed is acknowledged, and nothing else.
    assert_eq!(queue.depth(), 90 - rows);
}
