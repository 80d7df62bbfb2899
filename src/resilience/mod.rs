//! What to do about an error, and how long to wait before trying again.
//!
//! Components classify their errors once, in `fn recovery(&self)`; the pipeline acts on that alone.

mod breaker;
mod failpoint;
mod flood;

pub use breaker::{BreakerState, CircuitBreaker};
pub use failpoint::{Failpoint, failpoint};
pub use flood::{Flood, FloodGauge};
pub use tidemark_base::{Recovery, chain};

use std::time::Duration;

use rand::RngExt;

/// Exponential waiting with jitter, up to a ceiling; it never gives up by itself.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    ceiling: Duration,
    attempts: u32,
}

impl Backoff {
    pub fn new(first: Duration, ceiling: Duration) -> Self {
        Self { first, ceiling, attempts: 0 }
    }

    /// The next wait: doubled each time, between half and all of it by chance, so that many
    /// processes which lost the same server don't come back in step.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(20));
        self.attempts = self.attempts.saturating_add(1);
        doubled.min(self.ceiling).mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_are_counted() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<Duration> = (0..6).map(|_| backoff.next_wait()).collect();
        let ceilings = [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis);
        for (wait, ceiling) in waits.iter().zip(ceilings) {
            assert!(*wait <= ceiling && *wait >= ceiling / 2, "{wait:?} of {ceiling:?}");
        }
        assert_eq!(backoff.attempts(), 6);
    }
}
