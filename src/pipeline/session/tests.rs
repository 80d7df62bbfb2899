//! The loop from queue to target, without a broker.

use std::time::Duration;

use bytesize::ByteSize;

use super::*;
use crate::config::BatchLimits;
use crate::model::{Changelog, Epoch};
use crate::pipeline::schema::column_promotion::PromotionRetry;
use crate::pipeline::tasks::replay_watcher::ReplayWatcher;
use crate::pipeline::tasks::sql_watcher::SqlWatcher;
use crate::pipeline::tests::{event, processor, row, sql};
use crate::resilience::CircuitBreaker;
use crate::sink::conformance;
use crate::sink::memory::MemoryTarget;
use crate::source::memory::{MemoryQueue, MemorySource};

const LIMITS: BatchLimits =
    BatchLimits { messages: 3, pressed_messages: 3, bytes: 1 << 20, age: Duration::from_millis(5) };

/// Long; reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn carry_over() -> CarryOver {
    let (edits, replays) = (SqlWatcher::never(), ReplayWatcher::never());
    let (poison_search, altering) = (PoisonSearch::default(), PromotionRetry::default());
    CarryOver { edits, replays, poison_search, altering, has_started: false }
}

/// A loop over the shipped SQL, and its committer.
async fn started(
    queue: &MemoryQueue,
    target: &MemoryTarget,
) -> (Session<MemorySource>, tokio::task::JoinHandle<Result<(), CommitError>>) {
    let (processor, sink) = processor(&sql().await, target).await;
    let source = queue.bind();
    let acknowledger = source.acknowledger();
    let (committer, jobs) = Committer::new(
        Box::new(sink),
        acknowledger,
        (Health::default(), CircuitBreaker::default()),
    );
    let committer = tokio::spawn(committer.run(CancellationToken::new()));
    let collector = Collector::new(source, LIMITS);
    let fitting = TargetWatcher::never();
    (Session { collector, processor, jobs, fitting, has_stood_by: false }, committer)
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
    let ended =
        going.run(&mut carry_over(), &Health::default(), &CancellationToken::new()).await.unwrap();
    assert!(matches!(ended, Ended::Drained), "{ended:?}");
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
    target.sink("sales", "cdc").commit(&other).await.unwrap();
    push(&queue, 0..1);
    let (health, shutdown) = (Health::default(), CancellationToken::new());
    let mut carry_over = carry_over();
    let ended =
        tokio::time::timeout(PATIENCE, going.run(&mut carry_over, &health, &shutdown)).await;
    assert!(matches!(ended, Ok(Ok(Ended::Shutdown))), "{ended:?}");
    let error = committer.await.unwrap().unwrap_err();
    assert!(is_overtaken(&error, going.has_stood_by), "{error:?}");
    assert_eq!(queue.depth(), 1);
}

#[tokio::test]
async fn beyond_the_memory_limit_no_more_messages_are_taken_until_somebody_acts() {
    let (queue, target) = (MemoryQueue::new(7, 100), MemoryTarget::default());
    let (mut going, committer) = started(&queue, &target).await;
    going.processor.limit_memory(ByteSize::kib(2));
    push(&queue, 0..90);
    let (health, shutdown) = (Health::default(), CancellationToken::new());
    let mut carry_over = carry_over();
    let blocked = async {
        while !health.readiness().conditions.contains_key(&Condition::Memory) {
            tokio::task::yield_now().await;
        }
        let condition = health.readiness().conditions[&Condition::Memory].clone();
        shutdown.cancel();
        condition
    };
    let run = going.run(&mut carry_over, &health, &shutdown);
    let both = async { tokio::join!(run, blocked) };
    let (ended, condition) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(matches!(ended, Ok(Ended::Shutdown)), "{ended:?}");
    assert!(condition.contains("sql.memory_limit is 2.0 KiB (orders "), "{condition}");
    drop(going.jobs);
    committer.await.unwrap().unwrap();
    let rows: usize = target.landed("cdc_orders").iter().map(Changelog::len).sum();
    assert!((1..90).contains(&rows), "{rows} rows");
    // What was processed is acknowledged, and nothing else.
    assert_eq!(queue.depth(), 90 - rows);
}
