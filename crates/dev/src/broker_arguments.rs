//! Where commands publish to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use serde::Deserialize;
use tidemark_base::config_file::load_as;
use tidemark_base::{Secret, chain};
use tidemark_solace::{PublishConfig, SolaceConfig, SolaceError, try_to_consume};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Between two looks for the queue.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// The broker, by itself or as a processor's configuration has it.
#[derive(Debug, clap::Args)]
pub(crate) struct BrokerArguments {
    /// Takes broker, VPN, user and password from the `[source]` section of a processor's configuration.
    #[arg(long, conflicts_with = "broker")]
    config: Option<PathBuf>,
    #[arg(long, default_value = "tcp://127.0.0.1:55555")]
    broker: String,
    #[arg(long, default_value = "default")]
    vpn: String,
    #[arg(long, default_value = "generator", env = "SOLACE_USERNAME")]
    username: String,
    /// Better given as the environment variable, which other users can't see.
    #[arg(long, default_value = "", env = "SOLACE_PASSWORD", hide_env_values = true)]
    password: String,
    /// Messages that may wait for the broker's acknowledgement.
    #[arg(long, default_value_t = 255)]
    window: u8,
}

/// What is read of a processor's configuration.
#[derive(Debug, Deserialize)]
struct ProcessorConfig {
    source: Source,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Source {
    Solace(Box<SolaceConfig>),
    File {},
}

impl BrokerArguments {
    /// Where to publish to. With a processor's configuration, once its queue is there: what is published before is lost.
    pub(crate) async fn target(
        self,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<PublishConfig> {
        let window = self.window;
        let Some(path) = self.config else {
            return Ok(PublishConfig {
                host: self.broker,
                vpn: self.vpn,
                username: self.username,
                password: Secret::new(self.password),
                window,
            });
        };
        let solace = solace(&path)?;
        shutdown.run_until_cancelled(wait_for_queue(&solace)).await;
        Ok(PublishConfig {
            host: solace.host,
            vpn: solace.vpn,
            username: solace.username,
            password: solace.password,
            window,
        })
    }
}

fn solace(path: &Path) -> anyhow::Result<SolaceConfig> {
    match load_as::<ProcessorConfig>(path)?.source {
        Source::Solace(solace) => Ok(*solace),
        Source::File {} => bail!("{}: [source] is a file, not a broker", path.display()),
    }
}

/// Returns when the broker has the queue, or refuses to say.
async fn wait_for_queue(source: &SolaceConfig) {
    let mut is_told = false;
    while let Err(error @ (SolaceError::UnknownQueue { .. } | SolaceError::Unreachable { .. })) =
        try_to_consume(source).await
    {
        if !is_told {
            warn!(error = chain(&error), queue = source.queue, "waiting for the queue");
        }
        is_told = true;
        tokio::time::sleep(RETRY_WAIT).await;
    }
}
