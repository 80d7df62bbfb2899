//! How long a failing target is left alone, and what is said about it meanwhile.

use std::time::{Duration, Instant};

use metrics::gauge;
use tracing::{error, info, warn};

use crate::resilience::{Backoff, BreakerState, CircuitBreaker, chain};
use crate::sink::SinkError;
use crate::telemetry::{Condition, Health, names};

/// Waits between attempts at a target that is away.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(200);
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Backoff and circuit breaker of one user of a target.
pub(super) struct TargetRetry {
    backoff: Backoff,
    breaker: CircuitBreaker,
    health: Health,
    /// What the target is used for: `write` or `read`.
    using: &'static str,
}

impl TargetRetry {
    pub(super) fn new(breaker: CircuitBreaker, health: Health, using: &'static str) -> Self {
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let retry = Self { backoff, breaker, health, using };
        retry.show();
        retry
    }

    /// Notes a failure; how long to wait before the next attempt.
    pub(super) fn failed(&mut self, doing: &str, failure: &SinkError) -> Duration {
        let (now, reason) = (Instant::now(), chain(failure));
        let was_open = self.breaker.state() != BreakerState::Closed;
        let is_open = self.breaker.failed(failure.attempts().unwrap_or(self.breaker.limit()), now);
        let wait = if is_open { self.breaker.wait(now) } else { self.backoff.next_wait() };
        let (failures, wait_ms) = (self.breaker.failures(), wait.as_millis() as u64);
        if is_open {
            let text = format!("circuit breaker open after {failures} failure(s): {reason}");
            self.health.block(Condition::Target, text);
        } else {
            self.health.block(Condition::Target, reason.as_str());
        }
        self.show();
        if is_open && !was_open {
            error!(
                doing,
                failures,
                wait_ms,
                error = reason,
                "circuit breaker open: the target is left alone for a while, nothing is acknowledged"
            );
        } else {
            warn!(
                doing,
                failures,
                wait_ms,
                error = reason,
                "the target failed, nothing is acknowledged, trying again"
            );
        }
        wait
    }

    /// The wait is over: an attempt after a pause of the breaker is its probe.
    pub(super) fn probing(&mut self) {
        self.breaker.wait(Instant::now());
        self.show();
    }

    pub(super) fn succeeded(&mut self) {
        if self.breaker.failures() == 0 {
            return;
        }
        self.breaker.succeeded();
        self.backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        self.health.clear(Condition::Target);
        self.show();
        info!(using = self.using, "the target is back");
    }

    fn show(&self) {
        let state = f64::from(self.breaker.state() as u8);
        gauge!(names::BREAKER_STATE, "target" => "postgres", "use" => self.using).set(state);
    }
}
