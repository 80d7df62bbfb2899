//! Empties the outbox, row by row, as long as the processor runs.

use std::time::{Duration, Instant, SystemTime};

use metrics::{counter, gauge};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Backlog;
use super::client::{PostOutcome, RestClient};
use super::config::RestConfig;
use super::lanes::{Blame, FailedRow, Failure, LaneRules, Lanes};
use crate::model::ErrorType;
use crate::resilience::{Backoff, BreakerState, chain};
use crate::sink::SinkError;
use crate::sink::outbox::{OutboxRow, RejectedRequest};
use crate::sink::postgres::{Outbox, Turn};
use crate::telemetry::{Condition, Health, names};

/// How often the outbox is read when nobody says that it was filled; another processor may have.
const LOOK: Duration = Duration::from_secs(1);
/// Waits between attempts at an outbox that can't be read.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Keys that are too old are looked for at least so often.
const LONGEST_KEPT: Duration = Duration::from_secs(3600);
/// Rows that are read at once.
const PORTION: usize = 1_000;
/// Rows in memory at which no more are read.
const LOADED_ROWS: usize = 10_000;

/// Posts the rows of the outbox and takes out what the API has answered.
///
/// Ordering: rows of a lane one after the other, lanes in parallel. Only one process delivers the outbox of
/// a pipeline at a time; others wait for their turn.
///
/// Nothing but the API's answer about a row takes it out. An API that is away, overloaded or refuses our login is tried for
/// ever, with growing waits and behind a breaker per path; so is one that fails over every row. A row that it fails over
/// while it takes others is given up after its attempts. While a path fails, `/ready` says why and processing goes on
/// until the outbox is full.
pub struct Delivery {
    outbox: Outbox,
    client: RestClient,
    rules: LaneRules,
    parallel: usize,
    once_retention: Option<Duration>,
    backlog: Backlog,
    health: Health,
}

impl Delivery {
    /// Does not connect yet.
    ///
    /// # Errors
    /// [`SinkError::Config`] if the client can't be made.
    pub fn new(
        outbox: Outbox,
        config: &RestConfig,
        backlog: Backlog,
        health: Health,
    ) -> Result<Self, SinkError> {
        let rules = LaneRules {
            attempts: config.attempts.get(),
            first_wait: config.first_wait,
            longest_wait: config.longest_wait,
            breaker_failures: config.breaker_failures.get(),
            breaker_pause: config.breaker_pause,
        };
        let (parallel, once_retention) = (config.parallel.get(), config.once_retention);
        let client = RestClient::new(config)?;
        Ok(Self { outbox, client, rules, parallel, once_retention, backlog, health })
    }

    /// Runs until `stop`; requests that are under way then are waited for, and their rows settled.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        // At least once: a processor that ends with its file is over before anything else is asked for.
        loop {
            let wait = match self.take_turn(&stop, &mut backoff).await {
                Ok(()) => LOOK,
                Err(error) => {
                    let wait = backoff.next_wait();
                    let (error, wait_ms) = (chain(&error), wait.as_millis() as u64);
                    warn!(error, wait_ms, "the outbox can't be used, trying again");
                    self.health
                        .degrade(Condition::Rest, format!("the outbox can't be used: {error}"));
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.health.clear(Condition::Rest);
    }

    /// Delivers if no other process does.
    async fn take_turn(
        &self,
        stop: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<(), SinkError> {
        let Some(mut turn) = self.outbox.turn().await? else {
            let rows = self.outbox.count().await?;
            self.backlog.set(rows);
            let reason = "another process delivers the outbox: standing by";
            self.health.degrade(Condition::Rest, reason);
            return Ok(());
        };
        self.health.clear(Condition::Rest);
        self.backlog.set(self.outbox.count().await?);
        *backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut round = DeliveryRound {
            delivery: self,
            lanes: Lanes::new(self.rules.clone()),
            requests: JoinSet::new(),
            last: 0,
            has_more: true,
            forgets_at: Instant::now(),
            is_failing: false,
        };
        round.run(&mut turn, stop).await
    }
}

/// From taking the turn to losing it.
struct DeliveryRound<'a> {
    delivery: &'a Delivery,
    lanes: Lanes,
    requests: JoinSet<(OutboxRow, PostOutcome)>,
    /// The id of the last row that was read.
    last: i64,
    /// Whether the outbox may hold rows above it.
    has_more: bool,
    /// When keys that are too old are looked for.
    forgets_at: Instant,
    is_failing: bool,
}

impl DeliveryRound<'_> {
    async fn run(&mut self, turn: &mut Turn, stop: &CancellationToken) -> Result<(), SinkError> {
        loop {
            self.load(turn).await?;
            self.forget(turn).await?;
            self.start_requests();
            self.report();
            let wakes_at = self.lanes.wakes_at().unwrap_or_else(|| Instant::now() + LOOK);
            let wakes_at = wakes_at.min(Instant::now() + LOOK);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.requests.join_next() => self.settle(turn, Some(done)).await?,
                () = self.delivery.backlog.added() => self.has_more = true,
                () = tokio::time::sleep_until(wakes_at.into()) => self.has_more = true,
            }
        }
        while let Some(done) = self.requests.join_next().await {
            self.settle(turn, Some(done)).await?;
        }
        Ok(())
    }

    async fn load(&mut self, turn: &mut Turn) -> Result<(), SinkError> {
        while self.has_more && self.lanes.len() < LOADED_ROWS {
            let rows = turn.read(self.last, PORTION).await?;
            self.has_more = rows.len() == PORTION;
            self.last = rows.last().map_or(self.last, |row| row.id);
            self.lanes.add(rows);
        }
        if !self.has_more {
            self.delivery.backlog.set(self.lanes.len());
        }
        Ok(())
    }

    async fn forget(&mut self, turn: &mut Turn) -> Result<(), SinkError> {
        let (now, kept) = (Instant::now(), self.delivery.once_retention);
        let Some(kept) = kept.filter(|_| self.forgets_at <= now) else { return Ok(()) };
        self.forgets_at = now + (kept / 10).clamp(LOOK, LONGEST_KEPT);
        if let Some(before) = SystemTime::now().checked_sub(kept) {
            let rows = turn.forget(before).await?;
            if rows > 0 {
                info!(rows, "keys of rows that were sent once are forgotten");
            }
        }
        Ok(())
    }

    fn start_requests(&mut self) {
        let now = Instant::now();
        while self.requests.len() < self.delivery.parallel
            && let Some(row) = self.lanes.take(now)
        {
            let client = self.delivery.client.clone();
            self.requests.spawn(async move {
                let outcome = client.post(&row).await;
                (row, outcome)
            });
        }
    }

    /// Notes what has been answered meanwhile, and takes it out of the outbox.
    async fn settle(
        &mut self,
        turn: &mut Turn,
        mut done: Option<Result<(OutboxRow, PostOutcome), tokio::task::JoinError>>,
    ) -> Result<(), SinkError> {
        let (mut answered, mut refused) = (Vec::new(), Vec::new());
        while let Some(joined) = done {
            match joined {
                Ok((row, outcome)) => self.note(&row, outcome, &mut answered, &mut refused),
                // Its lane would wait for ever: a new turn reads all rows again.
                Err(error) => {
                    return Err(SinkError::Interrupted {
                        doing: "posting a row".to_owned(),
                        reason: "the request's task ended without an outcome".to_owned(),
                        attempts: None,
                        source: error.into(),
                    });
                }
            }
            done = self.requests.try_join_next();
        }
        if !answered.is_empty() {
            turn.settle(&answered, &refused).await?;
            self.delivery.backlog.remove(answered.len());
        }
        Ok(())
    }

    fn note(
        &mut self,
        row: &OutboxRow,
        outcome: PostOutcome,
        answered: &mut Vec<i64>,
        refused: &mut Vec<RejectedRequest>,
    ) {
        let word = match outcome {
            PostOutcome::Delivered => {
                self.lanes.settled(row);
                answered.push(row.id);
                "delivered"
            }
            PostOutcome::Refused { reason } => {
                warn!(
                    path = row.path,
                    idempotency_key = row.idempotency_key,
                    "the API refused a row: it is a dead letter"
                );
                self.lanes.settled(row);
                answered.push(row.id);
                refused.push(RejectedRequest { id: row.id, reason });
                "refused"
            }
            PostOutcome::Errored { told, reason, retry_after } => {
                let failure = Failure { reason: told, blame: Blame::ApiOrRow, retry_after };
                match self.lanes.failed(row, failure, Instant::now()) {
                    FailedRow::ComesAgain => "failed",
                    FailedRow::GivenUp => {
                        let attempts = self.delivery.rules.attempts;
                        warn!(
                            path = row.path,
                            idempotency_key = row.idempotency_key,
                            attempts,
                            "the API fails over a row and takes others: it is a dead letter"
                        );
                        answered.push(row.id);
                        let reason = format!(
                            "{reason} (after {attempts} attempts or more, while it took other rows)"
                        );
                        refused.push(RejectedRequest { id: row.id, reason });
                        "refused"
                    }
                }
            }
            PostOutcome::Failed { told, retry_after } => {
                let failure = Failure { reason: told, blame: Blame::Api, retry_after };
                self.lanes.failed(row, failure, Instant::now());
                "failed"
            }
        };
        if word == "refused" {
            let kind = ErrorType::RestRefused.as_str();
            counter!(names::DEAD_LETTERS, "type" => kind).increment(1);
        }
        counter!(names::REST_REQUESTS, "path" => row.path.clone(), "outcome" => word).increment(1);
    }

    fn report(&mut self) {
        gauge!(names::OUTBOX_ROWS).set(self.delivery.backlog.rows() as f64);
        gauge!(names::OUTBOX_LIMIT).set(self.delivery.backlog.limit() as f64);
        for (path, state) in self.lanes.breakers() {
            let labels = [("target", "rest".to_owned()), ("use", path.to_owned())];
            gauge!(names::BREAKER_STATE, &labels).set(f64::from(state as u8));
        }
        let failing = self.lanes.failing().map(|(path, reason, state)| match state {
            BreakerState::Closed => format!("{path}: {reason}"),
            BreakerState::HalfOpen | BreakerState::Open => {
                let rows = self.delivery.backlog.rows();
                format!("{path}: {reason} (breaker open, {rows} rows wait)")
            }
        });
        let failing: Vec<String> = failing.collect();
        let health = &self.delivery.health;
        match (failing.is_empty(), self.is_failing) {
            (false, was_failing) => {
                let reason = failing.join("; ");
                if !was_failing {
                    warn!(reason, "the REST API fails; its rows wait in the outbox");
                }
                health.degrade(Condition::Rest, reason);
            }
            (true, true) => {
                info!("the REST API is back");
                health.clear(Condition::Rest);
            }
            (true, false) => {}
        }
        self.is_failing = !failing.is_empty();
    }
}
