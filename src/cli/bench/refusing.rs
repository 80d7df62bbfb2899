//! The same catch-up into tables that refuse one row in a hundred.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::super::stack::{Observer, PIPELINE, QUEUE, Settings, Stack, end};
use super::{check, finished, with_text};

/// The landing tables of the shipped SQL.
const TABLES: [&str; 5] =
    ["cdc_orders", "cdc_order_items", "cdc_customers", "cdc_products", "cdc_audit_log"];

/// Messages per second of a catch-up, refused rows included.
pub(super) async fn rate(events: u64, sql: &Path, out: &mut impl Write) -> anyhow::Result<f64> {
    let scratch = std::env::temp_dir();
    let sql = refusing_sql(sql, scratch.join("tidemark-bench-sql"))?;
    let folder = scratch.join("tidemark-bench-refusing");
    let settings = Settings::new(std::env::current_exe()?, folder, &sql);
    let stack = Stack::start(settings).await?;
    let measured = catch_up(&stack, events, out).await;
    stack.stop().await?;
    measured
}

async fn catch_up(stack: &Stack, events: u64, out: &mut impl Write) -> anyhow::Result<f64> {
    writeln!(out, "the same backlog, with 1 % of the rows refused ...")?;
    finished(stack.generator(&["--rate", "max", "--events", &events.to_string()])?).await?;
    let messages = stack.published()?;
    let started = Instant::now();
    let mut processor = stack.processor(None)?;
    let mut observer = Observer::connect(&stack.postgres.url(), PIPELINE, QUEUE).await?;
    while !observer.has_ledger().await? {
        check(&mut processor, started)?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while observer.messages < messages {
        observer.poll().await?;
        check(&mut processor, started)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = started.elapsed();
    end(&mut processor, Duration::from_secs(15)).await?;
    let refused = observer.dead_letters;
    // A few per cent more or less: which rows are refused is a matter of their ids.
    if !(messages / 200..messages / 50).contains(&refused) {
        bail!("{refused} of {messages} rows were refused, which is not 1 %");
    }
    Ok(messages as f64 / took.as_secs_f64())
}

/// A copy of the SQL with constraints that only the server knows.
fn refusing_sql(sql: &Path, copy: PathBuf) -> anyhow::Result<PathBuf> {
    let copy = with_text(sql, copy)?;
    let mut rules = String::new();
    for table in TABLES {
        writeln!(
            rules,
            "ALTER TABLE {table} ADD CONSTRAINT one_in_a_hundred CHECK (abs(hashtext(event_id) % 100) <> 7);"
        )?;
    }
    std::fs::write(copy.join("ods/90_refusing.sql"), rules)?;
    Ok(copy)
}
