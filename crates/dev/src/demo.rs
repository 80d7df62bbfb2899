//! `tidemark demo`: the whole way on one machine, with a live line and a summary.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use tidemark_base::on_signal;
use tokio_util::sync::CancellationToken;

use crate::programs;
use crate::stack::{
    LocalPostgres, Observer, PIPELINE, Settings, Stack, end, free_port, quantile, shipped_mappings,
};

const RATE: &str = "5000/min";

/// `tidemark demo`.
pub(super) async fn run(seconds: u64, sql: &Path) -> anyhow::Result<()> {
    let shutdown = on_signal()?;
    let mut out = std::io::stdout();
    let folder = folder();
    writeln!(
        out,
        "Starting PostgreSQL, the development broker and the processor in {} ...",
        folder.display()
    )?;
    let settings = Settings::new(programs::processor()?, folder, sql);
    let settings = Settings { more_config: shipped_mappings(sql).to_owned(), ..settings };
    let stack = Stack::start(settings).await?;
    let shown = show(&stack, seconds, &shutdown).await;
    let stopped = stack.stop().await;
    shown.and(stopped)
}

/// `tidemark demo --psql`.
pub(super) async fn psql() -> anyhow::Result<()> {
    let mut postgres = LocalPostgres::existing(&folder(), free_port()?)?;
    postgres.start().await?;
    let status = postgres.psql().status().await?;
    postgres.stop().await?;
    if !status.success() {
        bail!("psql ended with {status}");
    }
    Ok(())
}

fn folder() -> PathBuf {
    std::env::temp_dir().join("tidemark-demo")
}

async fn show(stack: &Stack, seconds: u64, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let mut processor = stack.processor(None)?;
    let mut generator =
        stack.generator(&["--rate", RATE, "--documents", "--duration", &format!("{seconds}s")])?;
    writeln!(
        out,
        "Events flow at {RATE} for {seconds} s. Kill the processor if you like (kill -9 {}): it is started again.\n",
        processor.id().unwrap_or_default()
    )?;
    let mut observer = Observer::connect(&stack.postgres.url(), PIPELINE).await?;
    let started = Instant::now();
    let mut line = LiveLine::new(started);
    let mut restarts = 0;
    loop {
        if shutdown.is_cancelled() {
            break;
        }
        if let Some(status) = processor.try_wait()? {
            restarts += 1;
            if restarts > 20 {
                bail!(
                    "the processor keeps ending ({status}): see {}",
                    stack.folder().join("run.log").display()
                );
            }
            processor = stack.processor(None)?;
        }
        let has_ended = generator.try_wait()?.is_some();
        let new = if observer.has_ledger().await? { observer.poll().await? } else { 0 };
        line.show(&mut out, &mut observer, new).await?;
        // Published and nothing new for a second: everything is there.
        if has_ended && line.quiet_for() > Duration::from_secs(1) && observer.messages > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    end(&mut generator, Duration::from_secs(5)).await?;
    end(&mut processor, Duration::from_secs(15)).await?;
    if observer.has_ledger().await? {
        observer.poll().await?;
        summary(&mut out, stack, &observer, restarts).await?;
    }
    Ok(())
}

/// One line a second: rate, lag and what is there.
struct LiveLine {
    last_shown: Instant,
    last_new: Instant,
    since: u64,
}

impl LiveLine {
    fn new(started: Instant) -> Self {
        Self { last_shown: started, last_new: started, since: 0 }
    }

    fn quiet_for(&self) -> Duration {
        self.last_new.elapsed()
    }

    async fn show(
        &mut self,
        out: &mut impl Write,
        observer: &mut Observer,
        new: u64,
    ) -> anyhow::Result<()> {
        self.since += new;
        if new > 0 {
            self.last_new = Instant::now();
        }
        if self.last_shown.elapsed() < Duration::from_secs(1) {
            return Ok(());
        }
        let rate = self.since as f64 / self.last_shown.elapsed().as_secs_f64();
        let latencies = observer.recent_latencies(Duration::from_secs(2)).await?;
        let end = if std::io::stdout().is_terminal() { "\r" } else { "\n" };
        write!(
            out,
            "{:>7} events in Postgres | {rate:>5.0}/s | lag {:>4} ms | publish to visible p50 {:>4} ms, p99 {:>4} ms | {} dead letters {end}",
            observer.messages,
            observer.lag().map_or(0, |lag| lag.as_millis()),
            quantile(&latencies, 0.5).as_millis(),
            quantile(&latencies, 0.99).as_millis(),
            observer.dead_letters
        )?;
        out.flush()?;
        (self.last_shown, self.since) = (Instant::now(), 0);
        Ok(())
    }
}

const TABLES: [&str; 12] = [
    "cdc_orders",
    "cdc_order_items",
    "cdc_order_items_extracted",
    "cdc_order_details_extracted",
    "cdc_customers",
    "cdc_customer_addresses_extracted",
    "cdc_products",
    "cdc_audit_log",
    "cdc_orders_enriched",
    "cdc_order_lines_enriched",
    "cdc_order_stats",
    "cdc_dlq",
];

const NEWEST_WINDOWS: &str = "SELECT window_start, customer_tier, product_category, order_count, \
     total_revenue, is_final FROM cdc_order_stats WHERE window_size = '5 minutes' \
     ORDER BY window_start DESC, total_revenue DESC LIMIT 5";

async fn summary(
    out: &mut impl Write,
    stack: &Stack,
    observer: &Observer,
    restarts: u32,
) -> anyhow::Result<()> {
    let latencies = observer.latencies().await?;
    writeln!(
        out,
        "\n\n{} messages committed, {} dead letters, processor restarted {restarts} times",
        observer.messages, observer.dead_letters
    )?;
    writeln!(
        out,
        "publish to visible in Postgres: p50 {} ms, p99 {} ms\n\nrows",
        quantile(&latencies, 0.5).as_millis(),
        quantile(&latencies, 0.99).as_millis()
    )?;
    for table in TABLES {
        let count = observer.text_rows(&format!("SELECT count(*) FROM {table}")).await?;
        writeln!(out, "  {table:<32} {:>8}", count.first().map_or("", |row| row[0].as_str()))?;
    }
    writeln!(out, "\nnewest 5-minute windows (start, tier, category, orders, revenue, final)")?;
    for row in observer.text_rows(NEWEST_WINDOWS).await? {
        writeln!(out, "  {}", row.join(" | "))?;
    }
    let data: PathBuf = stack.folder().join("postgres");
    writeln!(out, "\nLook further:")?;
    writeln!(
        out,
        "  make demo-psql            # psql on the demo's database, in {}",
        data.display()
    )?;
    writeln!(
        out,
        "  datafusion-cli -c \"SELECT epoch, messages, landed, committed_at FROM '{}/**/*.parquet' ORDER BY epoch DESC LIMIT 5\"",
        stack.checkpoints().display()
    )?;
    let program = programs::processor()?;
    writeln!(out, "  {} check --sql sql   # how each SQL file is maintained", program.display())?;
    Ok(())
}
