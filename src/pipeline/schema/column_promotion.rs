//! Columns that landing tables get while the processor runs: what is told of them, and when those that could not
//! be had are tried again.

use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;
use tracing::warn;

use crate::pipeline::schema::schema_change_log;
use crate::sink::postgres::Altered;
use crate::telemetry::names;

const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// When the next attempt is due; it outlives sessions, because each attempt is a start.
#[derive(Debug, Default)]
pub(crate) struct PromotionRetry {
    wait: Option<Duration>,
    due: Option<Instant>,
}

impl PromotionRetry {
    /// A session has started.
    pub(crate) fn note(&mut self, has_failed: bool) {
        self.wait =
            has_failed.then(|| self.wait.map_or(FIRST_WAIT, |wait| (wait * 2).min(LONGEST_WAIT)));
        self.due = self.wait.map(|wait| Instant::now() + wait);
    }

    /// Cancel-safe; for ever if nothing has failed.
    pub(crate) async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

/// Tells operators which columns there are now, and which there are not.
pub(crate) fn tell(altered: &Altered) {
    schema_change_log::tell(&altered.done);
    for failed in &altered.failed {
        counter!(names::ALERTS, "kind" => "alter_failed").increment(1);
        let (table, column, reason) = (&failed.table, &failed.column, &failed.reason);
        warn!(
            alert = "alter_failed",
            table,
            column,
            reason,
            "a landing table has no column for a field: it is kept in extra_fields, and tried again later"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_failed_is_tried_again_later_and_later() {
        let mut altering = PromotionRetry::default();
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            let before = Instant::now();
            altering.note(true);
            let due = altering.due.expect("it is due");
            let wait = Duration::from_secs(60 * minutes);
            assert!(due >= before + wait && due <= Instant::now() + wait, "{minutes} minutes");
        }
        altering.note(false);
        assert_eq!(altering.due, None);
        altering.note(true);
        assert_eq!(altering.wait, Some(FIRST_WAIT));
    }
}
