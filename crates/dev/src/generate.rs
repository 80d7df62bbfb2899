//! `tidemark generate`: load for a broker or into a file.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tidemark_base::config_file::load_as;
use tidemark_base::{Secret, chain, on_signal};
use tidemark_solace::{PublishConfig, SolaceConfig, SolaceError, try_to_consume};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::generator::{
    Bursts, Config, OperationMix, Published, Rate, TableMix, publish, write_ndjson,
};

/// Between two looks for the queue.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// `tidemark generate`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Events: `5000/min`, `100/s`, or `max`.
    #[arg(long, default_value = "5000/min")]
    rate: Rate,
    /// Events beside those of the rate, all at once and again and again: `5000/10s`.
    #[arg(long, value_name = "EVENTS/TIME")]
    bursts: Option<Bursts>,
    /// Shares of orders, items, customers, products and audit entries. Default: 40,40,10,8,2.
    #[arg(long, value_name = "SHARES")]
    tables: Option<TableMix>,
    /// Shares of creates, updates and deletes in all tables. Default: each table has its own.
    #[arg(long, value_name = "SHARES")]
    operations: Option<OperationMix>,
    /// Ends after this many messages.
    #[arg(long)]
    events: Option<u64>,
    /// Ends after this time, such as `60s`.
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Pauses while the processor with this page can't follow, as in http://127.0.0.1:8080/metrics.
    #[arg(long, value_name = "URL")]
    heed: Option<url::Url>,
    /// The same seed makes the same rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of faulty changes, 0 to 1: malformed JSON, broken XML, an undeclared column.
    #[arg(long, default_value_t = 0.0)]
    faults: f64,
    /// Share of orders dated 10 s to 4 min in the past.
    #[arg(long, default_value_t = 0.02)]
    late: f64,
    /// Share of orders dated up to 9 s in the past.
    #[arg(long, default_value_t = 0.03)]
    out_of_order: f64,
    /// Share of orders dated 2099-01-01.
    #[arg(long, default_value_t = 0.0)]
    misdated: f64,
    /// The XML of an order has one item up to so many; 500 are about 30 KB.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    xml_items: u32,
    /// Puts the schema section into every envelope.
    #[arg(long)]
    with_schema: bool,
    /// Writes more columns with XML: ORDER_DETAILS of orders, ADDRESSES of customers.
    #[arg(long)]
    documents: bool,
    /// Writes Debezium's "unavailable value" where XML did not change.
    #[arg(long)]
    unchanged_lobs: bool,
    /// What SCNs begin with. Default: the time of the first event, so that those of a later run are higher.
    #[arg(long)]
    first_scn: Option<u64>,
    /// A clock that starts here, such as 2026-01-01T00:00:00Z, and moves by the rate.
    #[arg(long)]
    start_time: Option<DateTime<Utc>>,
    /// The rate by which that clock moves, if it is another than that of publishing: hours in seconds.
    #[arg(long, requires = "start_time")]
    clock_rate: Option<Rate>,
    /// Writes NDJSON to this file instead of publishing.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Takes broker, VPN, user and password from the `[source]` section of a processor's configuration.
    #[arg(long, conflicts_with_all = ["broker", "output"])]
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

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let generated = Config {
        seed: arguments.seed,
        rate: arguments.rate,
        bursts: arguments.bursts,
        tables: arguments.tables.unwrap_or_default(),
        operations: arguments.operations,
        events: arguments.events,
        duration: arguments.duration,
        heed: arguments.heed.clone(),
        faults: arguments.faults,
        late: arguments.late,
        out_of_order: arguments.out_of_order,
        misdated: arguments.misdated,
        xml_items: arguments.xml_items,
        with_schema: arguments.with_schema,
        documents: arguments.documents,
        unchanged_lobs: arguments.unchanged_lobs,
        first_scn: arguments.first_scn,
        start_time: arguments.start_time,
        clock_rate: arguments.clock_rate,
    };
    let mut out = std::io::stdout();
    if let Some(path) = &arguments.output {
        if generated.events.is_none() && generated.duration.is_none() {
            bail!("a file needs an end: give --events or --duration");
        }
        let count = write_ndjson(&generated, path)?;
        writeln!(out, "wrote {count} events to {}", path.display())?;
        return Ok(());
    }
    let shutdown = on_signal()?;
    let broker = target(arguments, &shutdown).await?;
    let published = publish(&generated, &broker, shutdown).await?;
    report(&published, &mut out)
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

/// Where to publish to. With a processor's configuration, once its queue is there: what is published before is lost.
async fn target(
    arguments: Arguments,
    shutdown: &CancellationToken,
) -> anyhow::Result<PublishConfig> {
    let window = arguments.window;
    let Some(path) = arguments.config else {
        return Ok(PublishConfig {
            host: arguments.broker,
            vpn: arguments.vpn,
            username: arguments.username,
            password: Secret::new(arguments.password),
            window,
        });
    };
    match load_as::<ProcessorConfig>(&path)?.source {
        Source::Solace(solace) => {
            shutdown.run_until_cancelled(wait_for_queue(&solace)).await;
            Ok(PublishConfig {
                host: solace.host,
                vpn: solace.vpn,
                username: solace.username,
                password: solace.password,
                window,
            })
        }
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

fn report(published: &Published, out: &mut impl Write) -> anyhow::Result<()> {
    for (table, count) in &published.per_table {
        writeln!(out, "{}: {count}", table.name())?;
    }
    writeln!(out, "acknowledged {} of {} messages", published.acknowledged, published.sent)?;
    if let Some((number, reason)) = published.rejections.first() {
        bail!(
            "{} messages were rejected; the first is number {number}: {reason}",
            published.rejected
        );
    }
    if !published.is_complete() {
        bail!("{} messages were not acknowledged", published.sent - published.acknowledged);
    }
    Ok(())
}
