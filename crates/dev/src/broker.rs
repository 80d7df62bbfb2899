//! `tidemark broker`: the development broker.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use tidemark_base::config_file::load_as;
use tidemark_base::on_signal;
use tidemark_broker as broker;
use tokio::net::TcpListener;

/// `tidemark broker`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address and port; only loopback without users in the configuration. Default 127.0.0.1:55555.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Address and port for questions about queues by HTTP (SEMP v2). Default: none.
    #[arg(long)]
    semp_listen: Option<SocketAddr>,
    /// The folder of the durable queues. Default `broker-data`.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Users, limits and queues.
    #[arg(long)]
    config: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut config = match &arguments.config {
        None => broker::Config::default(),
        Some(path) => load_as(path)?,
    };
    config.listen = arguments.listen.unwrap_or(config.listen);
    config.semp_listen = arguments.semp_listen.or(config.semp_listen);
    config.data_dir = arguments.data.unwrap_or(config.data_dir);
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("can't listen on {}", config.listen))?;
    Ok(broker::run(config, listener, on_signal()?).await?)
}
