//! `tidemark generate`: load for a broker or into a file.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use tidemark_base::on_signal;

use crate::broker_arguments::BrokerArguments;
use crate::generator::{
    Bursts, Config, OperationMix, Published, Rate, TableMix, publish, write_ndjson,
};

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
    /// Orders of before the run, an hour to four weeks old, that the snapshot at the beginning has after customers and
    /// products. Default: 1000 with --old-rows, else none.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    history: Option<u64>,
    /// Share of updates and deletes of orders and items that hit rows of before the run.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    old_rows: f64,
    /// Messages per event to `neighbours/orders`, at the same time: another queue that subscribes to it
    /// makes gaps in the ids of ours.
    #[arg(long, default_value_t = 0.0, value_parser = per_event)]
    neighbours: f64,
    /// Appends each payload that was published to this file, one a line.
    #[arg(long, conflicts_with = "output")]
    record: Option<PathBuf>,
    /// Share of faulty changes, 0 to 1: malformed JSON, broken XML, an undeclared column.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    faults: f64,
    /// Share of orders dated 10 s to 4 min in the past.
    #[arg(long, default_value_t = 0.02, value_parser = share)]
    late: f64,
    /// Share of orders dated up to 9 s in the past.
    #[arg(long, default_value_t = 0.03, value_parser = share)]
    out_of_order: f64,
    /// Share of orders dated 2099-01-01.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
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
    #[arg(long, conflicts_with = "config")]
    output: Option<PathBuf>,
    #[command(flatten)]
    broker: BrokerArguments,
}

/// Rows for changes of old rows to hit.
fn default_history(old_rows: f64) -> u64 {
    if old_rows > 0.0 { 1_000 } else { 0 }
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    number_up_to(1.0, text)
}

fn per_event(text: &str) -> Result<f64, String> {
    number_up_to(1_000.0, text)
}

fn number_up_to(largest: f64, text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=largest).contains(&number) => Ok(number),
        _ => Err(format!("it is no number from 0 to {largest}")),
    }
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
        history: arguments.history.unwrap_or(default_history(arguments.old_rows)),
        old_rows: arguments.old_rows,
        neighbours: arguments.neighbours,
        record: arguments.record.clone(),
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
    let broker = arguments.broker.target(&shutdown).await?;
    let published = publish(&generated, &broker, shutdown).await?;
    report(&published, &mut out)
}

fn report(published: &Published, out: &mut impl Write) -> anyhow::Result<()> {
    for (table, count) in &published.per_table {
        writeln!(out, "{}: {count}", table.name())?;
    }
    for run in &published.rejected_runs {
        writeln!(out, "rejected messages {} to {}", run.start(), run.end())?;
    }
    if published.neighbours > 0 {
        writeln!(out, "stored {} messages for other queues", published.neighbours)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_numbers_from_0_to_1() {
        assert_eq!(share("0.25"), Ok(0.25));
        for text in ["1.5", "-0.1", "NaN", "", "a"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!(per_event("3"), Ok(3.0));
        assert!(per_event("inf").is_err());
    }
}
