//! A gauge that moves while a loop goes round.

use std::time::{Duration, SystemTime};

use metrics::gauge;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::names;

/// Tells that a loop goes round, though nothing happens.
#[derive(Debug)]
pub struct Heartbeat(Interval);

impl Heartbeat {
    const PACE: Duration = Duration::from_secs(5);

    /// Must be called in a Tokio runtime; the first beat is at once.
    pub fn start() -> Self {
        let mut ticks = interval(Self::PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(ticks)
    }

    /// Waits until it is time to beat, and beats. Cancel-safe.
    pub async fn beat(&mut self) {
        self.0.tick().await;
        if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            gauge!(names::HEARTBEAT).set(now.as_secs_f64());
        }
    }
}
