//! Tells operators which transforms wait for something that is not there yet.

use metrics::gauge;
use tracing::warn;

use crate::telemetry::{Condition, Health, names};
use crate::transform::Transforms;

/// Each session says it anew, in the log, on the status page and as a metric.
pub(crate) fn tell(transforms: &Transforms, health: &Health) {
    for result in transforms.results() {
        gauge!(names::WAITING, "result" => result.name.clone()).set(0.0);
    }
    let mut reasons = Vec::new();
    for waiting in transforms.pending() {
        let reason = waiting.reason.to_string();
        warn!(result = waiting.result, reason, "a transform waits, the others run");
        gauge!(names::WAITING, "result" => waiting.result.clone()).set(1.0);
        reasons.push(reason);
    }
    if reasons.is_empty() {
        health.clear(Condition::Sql);
    } else {
        health.degrade(Condition::Sql, reasons.join("; "));
    }
}
