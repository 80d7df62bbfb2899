//! `tidemark run`: the processor with its status page.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics_exporter_prometheus::PrometheusHandle;
use tidemark_base::on_signal;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::model::Epoch;
use crate::source::SourceConfig;
use crate::source::solace::watch_depth;
use crate::telemetry::{Health, init_metrics};
use crate::{config, dashboard, pipeline};

const UPKEEP: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "tidemark.toml", env = "TIDEMARK_CONFIG")]
    config: PathBuf,
    /// Sets the source's clock, and with it the watermark, at this start: forward or back, as in 2024-01-15T10:00:00Z. For a
    /// clock that went by wrong times. Results that read watermark() are written again.
    #[arg(long, value_name = "TIME")]
    set_clock: Option<DateTime<Utc>>,
    /// Goes on although the database has lost committed epochs, up to this one: the number that the refused start has
    /// named. docs/FAILURES.md, "A database that has forgotten".
    #[arg(long, value_name = "EPOCH", env = "TIDEMARK_ACCEPT_LOST_EPOCHS")]
    accept_lost_epochs: Option<u64>,
}

/// `tidemark run`.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = config::load(&arguments.config)?;
    config.sql.start_time = arguments.set_clock.map(|time| time.timestamp_micros());
    if let Some(time) = arguments.set_clock {
        warn!(%time, "the source's clock is set, whatever its events have said");
    }
    let metrics = init_metrics()?;
    let listener = dashboard::listen(&config.http).await?;
    info!(pipeline = config.pipeline, http = %listener.local_addr()?, "tidemark starts");
    if let Some(warning) = config.sink.postgres.warning() {
        warn!("sink.postgres.{warning}");
    }
    let shutdown = on_signal()?;
    let health = Health::starting();
    let page = tokio::spawn(dashboard::serve(
        listener,
        config.pipeline.clone(),
        health.clone(),
        Some(metrics.clone()),
        shutdown.clone(),
    ));
    let upkeep = tokio::spawn(shutdown.clone().run_until_cancelled_owned(upkeep(metrics.clone())));
    let depth = tokio::spawn(watch_queue(config.source.clone(), shutdown.clone()));
    let accepts = arguments.accept_lost_epochs.map(Epoch);
    let ran = Box::pin(pipeline::run(&config, accepts, health, shutdown.clone())).await;
    shutdown.cancel();
    depth.await?;
    upkeep.await?;
    page.await??;
    ran?;
    info!("tidemark ends; everything that was acknowledged is committed");
    Ok(())
}

/// Histograms keep each value until they are asked for, or until this.
async fn upkeep(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

async fn watch_queue(source: SourceConfig, shutdown: CancellationToken) {
    match &source {
        SourceConfig::Solace(solace) => watch_depth(solace, &shutdown).await,
        SourceConfig::File(_) => {}
    }
}
