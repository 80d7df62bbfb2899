//! Metrics and health: what the program says about itself.

mod health;
mod heartbeat;
pub mod names;
mod stages;

pub use health::{Condition, Health, Readiness};
pub use heartbeat::Heartbeat;
pub use stages::Stages;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Latency buckets in seconds, from a millisecond to a minute.
const SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 60.0];

/// Starts counting; the handle renders the Prometheus text.
///
/// # Errors
/// If metrics were started before in this process.
pub fn init_metrics() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?;
    let handle = builder.install_recorder()?;
    names::describe();
    Ok(handle)
}
