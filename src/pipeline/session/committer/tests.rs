use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::*;
use crate::model::{Epoch, Receipt};
use crate::pipeline::target_retry::FIRST_WAIT;
use crate::resilience::CircuitBreaker;
use crate::sink::SinkError;
use crate::sink::conformance::epoch;
use crate::sink::memory::{CommitFault, MemoryTarget};
use crate::telemetry::Condition;

/// Remembers what was acknowledged, and how many epochs the target held at that moment.
#[derive(Clone)]
struct Acks {
    target: MemoryTarget,
    seen: Arc<Mutex<Vec<(u64, usize)>>>,
}

impl Acknowledge for Acks {
    async fn ack(&self, receipts: Vec<Receipt>) {
        let committed = self.target.ledger("p").len();
        let ids = receipts.into_iter().map(|receipt| (receipt.id, committed));
        self.seen.lock().unwrap().extend(ids);
    }
}

/// A running committer.
struct Bench {
    target: MemoryTarget,
    acks: Acks,
    health: Health,
    shutdown: CancellationToken,
    jobs: Jobs,
    running: JoinHandle<Result<(), CommitError>>,
}

impl Bench {
    fn with_fault(fault: CommitFault) -> Self {
        let target = MemoryTarget::default();
        target.set_fault(fault);
        Self::on(target)
    }

    fn on(target: MemoryTarget) -> Self {
        let acks = Acks { target: target.clone(), seen: Arc::default() };
        let (health, shutdown) = (Health::default(), CancellationToken::new());
        let sink = Box::new(target.sink("p", "q"));
        let retry = TargetRetry::new(breaker(), health.clone(), "write");
        let (committer, jobs) = Committer::new(sink, acks.clone(), retry, health.clone());
        let token = shutdown.clone();
        let running = tokio::spawn(async { committer.run(token).await.result });
        Self { target, acks, health, shutdown, jobs, running }
    }

    /// Epoch `number` of one message with the same number.
    async fn send(&self, number: u64) -> Result<(), CommitterStopped> {
        let commit = epoch(number).created(number, 1, "new").build();
        self.jobs.send(Job { commit: Some(commit), receipts: vec![receipt(number)] }).await
    }

    /// The committer has failed at least once.
    async fn failed(&self) {
        while self.health.readiness().ready {
            tokio::task::yield_now().await;
        }
    }

    /// Every job is done.
    async fn idle(&self) {
        let mut in_flight = self.jobs.in_flight();
        while !in_flight.is_empty() {
            in_flight.changed().await;
        }
    }

    fn acked(&self) -> Vec<(u64, usize)> {
        self.acks.seen.lock().unwrap().clone()
    }
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::new(5, Duration::from_millis(50))
}

fn receipt(id: u64) -> Receipt {
    Receipt { flow: 1, id }
}

#[tokio::test]
async fn messages_are_acknowledged_after_their_commit_in_the_order_of_the_jobs() {
    let bench = Bench::with_fault(CommitFault::None);
    bench.send(1).await.unwrap();
    // Every message of this one was committed before.
    bench.jobs.send(Job { commit: None, receipts: vec![receipt(2)] }).await.unwrap();
    bench.send(3).await.unwrap();
    bench.idle().await;
    assert_eq!(bench.acked(), [(1, 1), (2, 1), (3, 2)]);
    drop(bench.jobs);
    bench.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_target_that_is_away_is_tried_again_and_nothing_is_acknowledged_meanwhile() {
    let bench = Bench::with_fault(CommitFault::Unavailable);
    let started = Instant::now();
    bench.send(1).await.unwrap();
    bench.failed().await;
    assert_eq!((bench.acked(), bench.target.ledger("p").len()), (vec![], 0));
    assert!(bench.health.readiness().conditions[&Condition::Target].contains("not available"));
    bench.target.set_fault(CommitFault::None);
    bench.idle().await;
    assert_eq!(bench.acked(), [(1, 1)]);
    assert!(started.elapsed() >= FIRST_WAIT / 2, "{:?}", started.elapsed());
    assert!(bench.health.readiness().ready);
}

#[tokio::test]
async fn an_epoch_whose_answer_was_lost_is_written_once_and_acknowledged() {
    let bench = Bench::with_fault(CommitFault::LosesAnswer);
    bench.send(1).await.unwrap();
    bench.idle().await;
    assert_eq!((bench.acked(), bench.target.ledger("p").len()), (vec![(1, 1)], 1));
}

#[tokio::test]
async fn an_error_that_waiting_does_not_heal_ends_the_committer_unacknowledged() {
    let target = MemoryTarget::default();
    let other = epoch(1).created(9, 9, "of another processor").build();
    target.sink("p", "q").commit(&other).await.unwrap();
    let bench = Bench::on(target);
    bench.send(1).await.unwrap();
    // Whoever only waits for messages is told too.
    bench.jobs.closed().await;
    assert!(bench.send(2).await.is_err());
    let error = bench.running.await.unwrap().unwrap_err();
    assert!(matches!(error.source, SinkError::Fenced { .. }), "{error:?}");
    assert_eq!((error.epoch, error.had_committed), (Epoch(1), false));
    assert!(bench.acks.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_stopped_committer_tells_whether_it_had_committed() {
    let bench = Bench::with_fault(CommitFault::None);
    bench.send(1).await.unwrap();
    bench.idle().await;
    let other = epoch(2).created(9, 9, "of another processor").build();
    let mut competitor = bench.target.sink("p", "q");
    competitor.resume().await.unwrap();
    competitor.commit(&other).await.unwrap();
    bench.send(2).await.unwrap();
    let error = bench.running.await.unwrap().unwrap_err();
    assert_eq!((error.epoch, error.had_committed), (Epoch(2), true));
    assert_eq!(bench.acks.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn shutdown_while_the_target_is_away_gives_the_epoch_up_unacknowledged() {
    let bench = Bench::with_fault(CommitFault::Unavailable);
    bench.send(1).await.unwrap();
    bench.send(2).await.unwrap();
    bench.failed().await;
    bench.shutdown.cancel();
    bench.running.await.unwrap().unwrap();
    assert!(bench.acks.seen.lock().unwrap().is_empty());
    assert!(bench.target.ledger("p").is_empty());
}
