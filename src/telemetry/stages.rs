//! Times of the stages of an epoch.

use std::time::Instant;

use metrics::histogram;

use super::names;

/// Measures the stages of an epoch, one after the other.
#[derive(Debug)]
pub struct Stages {
    since: Instant,
}

impl Stages {
    pub fn start() -> Self {
        Self { since: Instant::now() }
    }

    /// The stage that began when the one before was done, or at the start.
    pub fn done(&mut self, stage: &'static str) {
        let now = Instant::now();
        histogram!(names::STAGE_SECONDS, "stage" => stage).record(now - self.since);
        self.since = now;
    }
}
