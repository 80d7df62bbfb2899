//! Leaves a target alone that keeps failing.
//!
//! ```text
//! closed ── failures in a row ──> open ── pause is over ──> half-open ── success ──> closed
//!                                  ^                            │
//!                                  └────────── failure ─────────┘
//! ```

use std::time::{Duration, Instant};

/// Counts failures in a row, and says when the next attempt may be made.
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    limit: u32,
    pause: Duration,
    failures: u32,
    state: BreakerState,
    /// When the next attempt may be made; only while open.
    until: Option<Instant>,
}

/// The number is what the metric shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Attempts go through.
    Closed = 0,
    /// The pause is over; one attempt decides.
    HalfOpen = 1,
    /// No attempt is made.
    Open = 2,
}

impl Default for CircuitBreaker {
    /// 5 failures, 30 s.
    fn default() -> Self {
        Self::new(5, Duration::from_secs(30))
    }
}

impl CircuitBreaker {
    /// Opens after `limit` failures in a row, for `pause` each time.
    pub fn new(limit: u32, pause: Duration) -> Self {
        Self { limit, pause, failures: 0, state: BreakerState::Closed, until: None }
    }

    pub fn state(&self) -> BreakerState {
        self.state
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// How many failures in a row open it, unless the error says another number.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How long to wait for the next attempt: zero unless it is open. The attempt after a pause is the
    /// probe.
    pub fn wait(&mut self, now: Instant) -> Duration {
        let left = self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if left.is_zero() && self.state == BreakerState::Open {
            (self.state, self.until) = (BreakerState::HalfOpen, None);
        }
        left
    }

    pub fn succeeded(&mut self) {
        (self.failures, self.state, self.until) = (0, BreakerState::Closed, None);
    }

    /// Notes a failure of a kind that opens it after `limit` in a row; `true` if it is open now.
    pub fn failed(&mut self, limit: u32, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.state != BreakerState::Closed || self.failures >= limit {
            (self.state, self.until) = (BreakerState::Open, Some(now + self.pause));
        }
        self.state == BreakerState::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    #[test]
    fn it_opens_after_the_limit_and_one_probe_decides() {
        let (mut breaker, start) = (CircuitBreaker::new(5, PAUSE), Instant::now());
        for _ in 0..4 {
            assert!(!breaker.failed(5, start));
            assert_eq!(breaker.wait(start), Duration::ZERO);
        }
        assert!(breaker.failed(5, start));
        assert_eq!((breaker.state(), breaker.wait(start)), (BreakerState::Open, PAUSE));
        assert_eq!(breaker.wait(start + PAUSE / 3), PAUSE - PAUSE / 3);
        let later = start + PAUSE;
        assert_eq!(breaker.wait(later), Duration::ZERO);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.failed(5, later), "a failed probe opens it again at once");
        assert_eq!(breaker.wait(later + PAUSE), Duration::ZERO);
        breaker.succeeded();
        assert_eq!((breaker.state(), breaker.failures()), (BreakerState::Closed, 0));
        assert!(!breaker.failed(5, later), "and it counts from the start");
    }

    #[test]
    fn the_kind_of_error_may_have_its_own_limit() {
        let (mut breaker, start) = (CircuitBreaker::new(5, PAUSE), Instant::now());
        assert!(!breaker.failed(10, start));
        assert!(!breaker.failed(3, start));
        assert!(breaker.failed(1, start));
    }
}
