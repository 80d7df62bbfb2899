//! The same catch-up into tables that refuse one row in a hundred.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::progress::{check, finished};
use super::sql_copy::with_text;
use crate::programs;
use crate::stack::{Observer, PIPELINE, Settings, Stack, end};

/// The landing tables of the shipped SQL.
const TABLES: [&str; 5] =
    ["cdc_orders", "cdc_order_items", "cdc_customers", "cdc_products", "cdc_audit_log"];

/// A way to refuse rows that only the server knows: `{}` is the table, and `{bad}` the remainder by 100 of refused rows.
pub(super) struct Rule {
    pub(super) name: &'static str,
    ddl: &'static str,
}

/// A rule, and the remainder of the rows that it refuses.
struct AppliedRule<'a> {
    rule: &'a Rule,
    bad: u64,
}

impl Rule {
    fn refusing(&self, bad: u64) -> AppliedRule<'_> {
        AppliedRule { rule: self, bad }
    }
}

pub(super) const RULES: [Rule; 5] = [
    Rule {
        name: "a CHECK",
        ddl: "ALTER TABLE {} ADD CHECK (abs(hashtext(event_id) % 100) <> {bad});",
    },
    Rule {
        name: "a domain",
        ddl: "DROP VIEW {}_current CASCADE; ALTER TABLE {} ALTER event_id TYPE not_bad;",
    },
    Rule {
        name: "a trigger",
        ddl: "CREATE TRIGGER not_bad BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION not_bad();",
    },
    // All but the first of them.
    Rule {
        name: "a unique index",
        ddl: "CREATE UNIQUE INDEX ON {} ((true)) WHERE abs(hashtext(event_id) % 100) = {bad};",
    },
    Rule {
        name: "a foreign key",
        ddl: "ALTER TABLE {} ADD remainder integer GENERATED ALWAYS AS (abs(hashtext(event_id) % 100)) STORED \
              REFERENCES all_but_bad;",
    },
];

/// What the rules use.
const COMMON: &str = "\
CREATE DOMAIN not_bad AS text CHECK (abs(hashtext(VALUE) % 100) <> {bad});
CREATE FUNCTION not_bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF abs(hashtext(NEW.event_id) % 100) = {bad} THEN RAISE EXCEPTION 'one in a hundred'; END IF; RETURN NEW; END $$;
CREATE TABLE all_but_bad (id integer PRIMARY KEY);
INSERT INTO all_but_bad SELECT generate_series(0, 99) EXCEPT VALUES ({bad});
";
/// A remainder of one row in a hundred, and one of none.
const ONE_PERCENT: u64 = 7;
const NONE: u64 = 100;

/// Messages per second of a catch-up, refused rows included.
pub(super) struct Rates {
    pub(super) without: f64,
    pub(super) with: f64,
}

/// With a rule that refuses no row, and with the same that refuses one in a hundred: the better of two runs of each, which
/// take turns, so that a busy machine is busy for both.
pub(super) async fn rates(
    rule: &Rule,
    events: u64,
    sql: &Path,
    out: &mut impl Write,
) -> anyhow::Result<Rates> {
    writeln!(out, "{events} events, 1 % of the rows refused by {} ...", rule.name)?;
    let mut rates = Rates { without: 0.0, with: 0.0 };
    for _ in 0..2 {
        rates.without = rate(&rule.refusing(NONE), events, sql).await?.max(rates.without);
        rates.with = rate(&rule.refusing(ONE_PERCENT), events, sql).await?.max(rates.with);
    }
    Ok(rates)
}

async fn rate(rule: &AppliedRule<'_>, events: u64, sql: &Path) -> anyhow::Result<f64> {
    let scratch = std::env::temp_dir();
    let sql = refusing_sql(rule, sql, scratch.join("tidemark-bench-sql"))?;
    let folder = scratch.join("tidemark-bench-refusing");
    let settings = Settings::new(programs::processor()?, folder, &sql);
    let stack = Stack::start(settings).await?;
    let measured = catch_up(&stack, events, rule.bad).await;
    stack.stop().await?;
    measured
}

async fn catch_up(stack: &Stack, events: u64, bad: u64) -> anyhow::Result<f64> {
    finished(stack.generator(&["--rate", "max", "--events", &events.to_string()])?).await?;
    let messages = stack.published()?;
    let started = Instant::now();
    let mut processor = stack.processor(None)?;
    let mut observer = Observer::connect(&stack.postgres.url(), PIPELINE).await?;
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
    let expected = if bad == NONE { 0..1 } else { messages / 200..messages / 50 };
    if !expected.contains(&refused) {
        bail!("{refused} of {messages} rows were refused, which is not 1 %, or not none");
    }
    Ok(messages as f64 / took.as_secs_f64())
}

/// A copy of the SQL with a rule for each landing table.
fn refusing_sql(applied: &AppliedRule<'_>, sql: &Path, copy: PathBuf) -> anyhow::Result<PathBuf> {
    let AppliedRule { rule, bad } = applied;
    let copy = with_text(sql, copy)?;
    let rules = TABLES.map(|table| rule.ddl.replace("{}", table)).join("\n");
    let ddl = format!("{COMMON}{rules}").replace("{bad}", &bad.to_string());
    std::fs::write(copy.join("ods/90_refusing.sql"), ddl)?;
    Ok(copy)
}
