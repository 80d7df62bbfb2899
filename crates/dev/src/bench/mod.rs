//! `tidemark bench`: the figures of the README, all in one run, broker and Postgres included.

mod progress;
mod refusing;
mod sql_copy;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::programs;
use crate::stack::{Observer, PIPELINE, Settings, Stack, end, quantile};
use progress::{check, finished};
use sql_copy::with_text;

/// What was measured.
struct Figures {
    messages: u64,
    first_row: Duration,
    catch_up: Duration,
    peak_rss_mib: u64,
    cpu: Duration,
    p50: Duration,
    p99: Duration,
    /// Seconds of each stage while catching up.
    stages: Vec<(String, f64)>,
    /// Bytes in memory at the end of that.
    memory: Vec<(String, f64)>,
}

/// `tidemark bench`.
pub(super) async fn run(events: u64, seconds: u64, sql: &Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let scratch = std::env::temp_dir();
    let landing_text = with_text(sql, scratch.join("tidemark-bench-text"))?;
    let folder = scratch.join("tidemark-bench");
    let settings = Settings::new(programs::processor()?, folder, &landing_text);
    let stack = Stack::start(settings).await?;
    let measured = measure(&stack, events, seconds, &mut out).await;
    let stopped = stack.stop().await;
    let figures = measured?;
    stopped?;
    let mut refusing = Vec::new();
    for rule in &refusing::RULES {
        refusing.push((rule.name, refusing::rates(rule, events / 5, sql, &mut out).await?));
    }
    if cfg!(debug_assertions) {
        writeln!(out, "NOTE: this is a development build; `make bench` measures a release build")?;
    }
    let rate = figures.messages as f64 / figures.catch_up.as_secs_f64();
    writeln!(out, "backlog                          {:>10} messages", figures.messages)?;
    writeln!(out, "catch-up, from process start     {rate:>10.0} messages/s")?;
    for (by, rates) in refusing {
        let percent = 100.0 * rates.with / rates.without;
        writeln!(
            out,
            "1 % refused by {by:<17} {:>10.0} messages/s, {percent:.0} % of what it is where none are",
            rates.with
        )?;
    }
    writeln!(
        out,
        "processor CPU per million        {:>10.1} s",
        figures.cpu.as_secs_f64() * 1e6 / figures.messages as f64
    )?;
    writeln!(out, "start to first row               {:>10.2} s", figures.first_row.as_secs_f64())?;
    writeln!(
        out,
        "publish to visible, 10,000/min   p50 {} ms, p99 {} ms",
        figures.p50.as_millis(),
        figures.p99.as_millis()
    )?;
    writeln!(out, "peak RSS of the processor        {:>10} MiB", figures.peak_rss_mib)?;
    writeln!(out, "stages of the catch-up (processing and committing overlap):")?;
    for (stage, seconds) in &figures.stages {
        writeln!(out, "  {stage:<30} {seconds:>10.2} s")?;
    }
    writeln!(out, "memory after the catch-up:")?;
    for (what, bytes) in &figures.memory {
        writeln!(out, "  {what:<30} {:>10.1} MiB", bytes / 1_048_576.0)?;
    }
    Ok(())
}

async fn measure(
    stack: &Stack,
    events: u64,
    seconds: u64,
    out: &mut impl Write,
) -> anyhow::Result<Figures> {
    writeln!(out, "publishing a backlog of {events} events ...")?;
    let arguments = ["--rate", "max", "--events", &events.to_string()];
    finished(stack.generator(&arguments)?).await?;
    let messages = stack.published()?;

    writeln!(out, "catching up ...")?;
    let started = Instant::now();
    let mut processor = stack.processor(None)?;
    let mut observer = Observer::connect(&stack.postgres.url(), PIPELINE).await?;
    let mut first_row = None;
    while !observer.has_ledger().await? {
        check(&mut processor, started)?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while observer.messages < messages {
        if observer.poll().await? > 0 {
            first_row.get_or_insert_with(|| started.elapsed());
        }
        check(&mut processor, started)?;
        // The observer runs on the same cores: it looks often only where the time of one row counts.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (catch_up, cpu) = (started.elapsed(), cpu_time(&processor)?);
    let metrics = scrape(stack.http_port).await?;
    let (stages, memory) = (
        labelled(&metrics, "cdc_stage_seconds_sum", "stage"),
        [
            labelled(&metrics, "cdc_state_bytes", "table"),
            labelled(&metrics, "cdc_upkeep_bytes", "result"),
        ]
        .concat(),
    );

    writeln!(out, "10,000 events a minute for {seconds} s ...")?;
    observer.start_over();
    let duration = format!("{seconds}s");
    let mut generator =
        stack.generator(&["--rate", "10000/min", "--duration", &duration, "--seed", "2"])?;
    let started = Instant::now();
    let mut last_new = Instant::now();
    while generator.try_wait()?.is_none() || last_new.elapsed() < Duration::from_secs(1) {
        if observer.poll().await? > 0 {
            last_new = Instant::now();
        }
        check(&mut processor, started)?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let latencies = observer.latencies().await?;
    let peak_rss_mib = peak_rss_mib(&processor)?;
    end(&mut processor, Duration::from_secs(15)).await?;
    Ok(Figures {
        messages,
        first_row: first_row.unwrap_or_default(),
        catch_up,
        peak_rss_mib,
        cpu,
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        stages,
        memory,
    })
}

/// The processor's metrics as text.
async fn scrape(port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The values of a metric by one label.
fn labelled(metrics: &str, name: &str, label: &str) -> Vec<(String, f64)> {
    let start = format!("{name}{{{label}=\"");
    let values = metrics.lines().filter_map(|line| {
        let (value, number) = line.strip_prefix(&start)?.split_once("\"} ")?;
        Some((value.to_owned(), number.parse().ok()?))
    });
    values.collect()
}

/// Linux's own count of the process's largest resident size.
fn peak_rss_mib(process: &Child) -> anyhow::Result<u64> {
    let pid = process.id().context("the processor has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    Ok(kib.context("/proc has no VmHWM")? / 1024)
}

/// User and system time of all threads so far, from /proc; a tick is 10 ms on Linux.
fn cpu_time(process: &Child) -> anyhow::Result<Duration> {
    let pid = process.id().context("the processor has ended")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks =
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}
