//! `tidemark run`: the processor with its status page.

use std::path::Path;
use std::time::Duration;

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

/// `tidemark run`.
pub(super) async fn run(path: &Path, accepts: Option<u64>) -> anyhow::Result<()> {
    let config = config::load(path)?;
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
    let ran = pipeline::run(&config, accepts.map(Epoch), health, shutdown.clone()).await;
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
