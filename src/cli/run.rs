//! `tidemark run`: the processor with its status page.

use std::path::Path;

use tidemark_base::on_signal;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::model::Epoch;
use crate::source::SourceConfig;
use crate::source::solace::watch_depth;
use crate::telemetry::{Health, init_metrics};
use crate::{config, dashboard, pipeline};

/// `tidemark run`.
pub(super) async fn run(path: &Path, accepts: Option<u64>) -> anyhow::Result<()> {
    let config = config::load(path)?;
    let metrics = init_metrics()?;
    let listener = dashboard::listen(&config.http).await?;
    info!(pipeline = config.pipeline, http = %listener.local_addr()?, "tidemark starts");
    let shutdown = on_signal()?;
    let health = Health::starting();
    let page = tokio::spawn(dashboard::serve(
        listener,
        config.pipeline.clone(),
        health.clone(),
        Some(metrics),
        shutdown.clone(),
    ));
    let depth = tokio::spawn(watch_queue(config.source.clone(), shutdown.clone()));
    let ran = pipeline::run(&config, accepts.map(Epoch), health, shutdown.clone()).await;
    shutdown.cancel();
    depth.await?;
    page.await??;
    ran?;
    info!("tidemark ends; everything that was acknowledged is committed");
    Ok(())
}

async fn watch_queue(source: SourceConfig, shutdown: CancellationToken) {
    match &source {
        SourceConfig::Solace(solace) => watch_depth(solace, &shutdown).await,
        SourceConfig::File(_) => {}
    }
}
