//! `tidemark api`: the REST API for development.

use std::net::SocketAddr;

use anyhow::Context;
use tidemark_base::on_signal;
use tidemark_broker::api;
use tokio::net::TcpListener;

/// `tidemark api`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address and port. It asks nobody who they are: keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:8095")]
    listen: SocketAddr,
    /// The newest requests that it remembers.
    #[arg(long, default_value_t = api::DEFAULT_KEPT)]
    keep: usize,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind(arguments.listen).await;
    let listener = listener.with_context(|| format!("can't listen on {}", arguments.listen))?;
    tracing::info!(address = %listener.local_addr()?, "the API listens; /openapi.json says what it takes");
    api::serve(listener, api::Store::keeping(arguments.keep), on_signal()?).await?;
    Ok(())
}
