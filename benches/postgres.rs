//! The Postgres sink alone, beside what psql does with the same rows on the same server, in the same epochs
//! and tables: `cargo bench --bench postgres`. Further, what refused rows cost.
//!
//! Append is plain `\copy`, one transaction per epoch; upsert is `\copy` into a temporary staging table, then
//! `INSERT ... SELECT ... ON CONFLICT DO UPDATE`. The sink's epochs have their ledger rows too.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tidemark::model::{EpochCommit, Offset};
use tidemark::sink::conformance::{self, EpochBuilder, epoch, orders, totals};
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};
use tidemark::sink::{Sink, SinkError};
use tidemark_dev::stack::{LocalPostgres, free_port};
use tokio_postgres::{Client, NoTls};

/// Rows of an epoch; half of the keyed ones are new, half are of the epoch before.
const ROWS: u64 = 10_000;
const EPOCHS: u64 = 20;
/// They take turns, so that a busy machine is busy for all.
const ROUNDS: u64 = 3;
/// Every so-manieth row is refused, where some are.
const ONE_IN: u64 = 100;

const TABLES: &str = "
CREATE TABLE orders_history (
  order_id bigint NOT NULL, status varchar(40), amount numeric(15,2),
  operation text NOT NULL, source_ts timestamp, extra_fields jsonb, event_id text,
  change_seq bigint NOT NULL, processed_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON orders_history (order_id, change_seq);
CREATE TABLE order_totals (
  order_id bigint PRIMARY KEY, status text, processed_at timestamptz) WITH (fillfactor = 70);
CREATE TABLE order_log (order_id bigint, status text);
";

/// A way to refuse a row that is landed.
struct Poison {
    what: &'static str,
    clean: &'static str,
    poisoned: &'static str,
    ddl: &'static str,
    /// Of the rows that are refused.
    status: &'static str,
    /// What makes the target refuse them, if that is not their status.
    taken: &'static str,
}

const POISON: [Poison; 6] = [
    Poison {
        what: "1 % too long",
        clean: "landing, none too long",
        poisoned: "landing, 1 % too long",
        ddl: "",
        status: "a status of more than forty characters is too long",
        taken: "",
    },
    Poison {
        what: "1 % against a CHECK",
        clean: "landing, none against a CHECK",
        poisoned: "landing, 1 % against a CHECK",
        ddl: "ALTER TABLE orders_history ADD CHECK (status <> 'bad')",
        status: "bad",
        taken: "",
    },
    Poison {
        what: "1 % against a domain",
        clean: "landing, none against a domain",
        poisoned: "landing, 1 % against a domain",
        ddl: "CREATE DOMAIN state AS varchar(40) CHECK (VALUE <> 'bad'); \
              ALTER TABLE orders_history ALTER status TYPE state",
        status: "bad",
        taken: "",
    },
    Poison {
        what: "1 % against a unique index",
        clean: "landing, none against a unique index",
        poisoned: "landing, 1 % against a unique index",
        ddl: "CREATE UNIQUE INDEX ON orders_history (order_id)",
        status: "fine",
        taken: "INSERT INTO orders_history (order_id, operation, change_seq) \
                SELECT number * 100000 + row, 'c', 0 \
                FROM generate_series(1, 20) AS number, generate_series(7, 9999, 100) AS row",
    },
    Poison {
        what: "1 % without its parent",
        clean: "landing, all with their parent",
        poisoned: "landing, 1 % without its parent",
        ddl: "CREATE TABLE parents (status varchar(40) PRIMARY KEY); INSERT INTO parents VALUES ('fine'); \
              ALTER TABLE orders_history ADD FOREIGN KEY (status) REFERENCES parents",
        status: "bad",
        taken: "",
    },
    Poison {
        what: "1 % refused by a trigger",
        clean: "landing, none refused by a trigger",
        poisoned: "landing, 1 % refused by a trigger",
        ddl: "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
              $$ BEGIN IF NEW.status = 'bad' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$; \
              CREATE TRIGGER refuse BEFORE INSERT ON orders_history FOR EACH ROW EXECUTE FUNCTION refuse()",
        status: "bad",
        taken: "",
    },
];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run())
}

async fn run() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let postgres = LocalPostgres::create(folder.path(), free_port()?).await?;
    let bench = Bench::new(&postgres, folder.path()).await?;
    let mut figures = Figures::default();
    for round in 0..ROUNDS {
        bench.round(round, &mut figures).await?;
    }
    write!(std::io::stdout(), "{}", figures.text()?)?;
    postgres.stop().await?;
    Ok(())
}

/// The best time for all epochs of each thing that was done.
#[derive(Default)]
struct Figures(Vec<(&'static str, Duration)>);

impl Figures {
    fn note(&mut self, what: &'static str, took: Duration) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, best)) => *best = took.min(*best),
            None => self.0.push((what, took)),
        }
    }

    fn rate(&self, what: &str) -> f64 {
        let found = self.0.iter().find(|(known, _)| *known == what);
        found.map_or(0.0, |(_, took)| (ROWS * EPOCHS) as f64 / took.as_secs_f64())
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let beside = [
            ("append", "append by the sink", "append by \\copy"),
            ("upsert", "upsert by the sink", "upsert by psql with a staging table"),
        ];
        let poison = POISON.iter().map(|poison| (poison.what, poison.poisoned, poison.clean));
        for (what, _) in &self.0 {
            writeln!(text, "{what:<40} {:>9.0} rows/s", self.rate(what))?;
        }
        for (what, ours, other) in beside.into_iter().chain(poison) {
            let percent = 100.0 * self.rate(ours) / self.rate(other);
            writeln!(text, "{what:<40} {percent:>9.0} % of {other}")?;
        }
        Ok(text)
    }
}

struct Bench<'a> {
    postgres: &'a LocalPostgres,
    folder: &'a Path,
    client: Client,
}

impl<'a> Bench<'a> {
    async fn new(postgres: &'a LocalPostgres, folder: &'a Path) -> Outcome<Self> {
        let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { postgres, folder, client })
    }

    async fn sink(&self, schema: &str) -> Outcome<PostgresSink> {
        let schema = schema.to_owned();
        let config = PostgresConfig { schema, ..PostgresConfig::from_url(self.postgres.url()) };
        let mut sink = PostgresSink::new(config, conformance::PIPELINE, conformance::QUEUE)?;
        sink.schema_admin().apply_ods(&[("01_tables.sql".to_owned(), TABLES.to_owned())]).await?;
        sink.check_targets(&[orders()], &[totals(), conformance::log()]).await?;
        Ok(sink)
    }

    async fn round(&self, round: u64, figures: &mut Figures) -> Outcome<()> {
        let schema = format!("round_{round}");
        let mut sink = self.sink(&schema).await?;
        self.settle().await?;
        figures.note("append by the sink", timed(&mut sink, 0, landed).await?);
        self.settle().await?;
        figures.note("append by \\copy", self.copied(&schema).await?);
        self.settle().await?;
        figures.note("upsert by the sink", timed(&mut sink, EPOCHS, upserted).await?);
        self.settle().await?;
        figures.note("upsert by psql with a staging table", self.staged(&schema).await?);

        for (number, poison) in POISON.iter().enumerate() {
            let clean = (poison.clean, "fine", "");
            for (what, status, taken) in [clean, (poison.poisoned, poison.status, poison.taken)] {
                let schema = format!("poison_{round}_{number}");
                let mut sink = self.sink(&schema).await?;
                let ddl = format!("SET search_path = {schema}; {}; {taken}", poison.ddl);
                self.client.batch_execute(&ddl).await?;
                self.settle().await?;
                figures.note(what, poisoned(&mut sink, status).await?);
                self.client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await?;
            }
        }
        self.client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await?;
        Ok(())
    }

    /// What the one before has left to be written costs the next one nothing.
    async fn settle(&self) -> Outcome<()> {
        self.client.batch_execute("CHECKPOINT").await?;
        Ok(())
    }

    async fn psql(&self, script: &str) -> Outcome<Duration> {
        let path = self.folder.join("script.sql");
        std::fs::write(&path, script)?;
        let started = Instant::now();
        let mut psql = self.postgres.psql();
        let status = psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&path).status().await?;
        let took = started.elapsed();
        if status.success() { Ok(took) } else { Err("psql failed".into()) }
    }

    /// The rows that the sink has landed, as files of epochs and then as rows of another table.
    async fn copied(&self, schema: &str) -> Outcome<Duration> {
        let (mut out, mut back) = (String::new(), String::new());
        let make =
            format!("CREATE TABLE {schema}.copied (LIKE {schema}.orders_history INCLUDING ALL)");
        self.client.batch_execute(&make).await?;
        for number in 1..=EPOCHS {
            let file = self.folder.join(format!("epoch_{number}"));
            let (file, first) = (file.display(), number * 100_000);
            writeln!(
                out,
                "\\copy (SELECT * FROM {schema}.orders_history WHERE order_id BETWEEN {first} AND {first} + 99999) TO '{file}'"
            )?;
            writeln!(back, "\\copy {schema}.copied FROM '{file}'")?;
        }
        self.psql(&out).await?;
        let took = self.psql(&back).await?;
        self.same_count(schema, "orders_history", "copied").await?;
        Ok(took)
    }

    async fn staged(&self, schema: &str) -> Outcome<Duration> {
        let make =
            format!("CREATE TABLE {schema}.upserted (LIKE {schema}.order_totals INCLUDING ALL)");
        self.client.batch_execute(&format!("{make} WITH (fillfactor = 70)")).await?;
        let mut script = format!("CREATE TEMPORARY TABLE staging (LIKE {schema}.order_totals);\n");
        for number in 1..=EPOCHS {
            let file = self.folder.join(format!("keys_{number}"));
            let mut rows = std::io::BufWriter::new(std::fs::File::create(&file)?);
            for row in 0..ROWS {
                writeln!(rows, "{}\t{}\t2024-01-01 00:00:00+00", key(number, row), status(number))?;
            }
            rows.flush()?;
            writeln!(
                script,
                "BEGIN;\n\\copy staging FROM '{}'\nINSERT INTO {schema}.upserted SELECT * FROM staging \
                 ON CONFLICT (order_id) DO UPDATE SET status = EXCLUDED.status, processed_at = EXCLUDED.processed_at;\n\
                 TRUNCATE staging;\nCOMMIT;",
                file.display()
            )?;
        }
        let took = self.psql(&script).await?;
        self.same_count(schema, "order_totals", "upserted").await?;
        Ok(took)
    }

    async fn same_count(&self, schema: &str, ours: &str, other: &str) -> Outcome<()> {
        let sql = format!(
            "SELECT (SELECT count(*) FROM {schema}.{ours}), (SELECT count(*) FROM {schema}.{other})"
        );
        let row = self.client.query_one(&sql, &[]).await?;
        let (ours, other): (i64, i64) = (row.get(0), row.get(1));
        if ours == other && ours > 0 {
            Ok(())
        } else {
            Err(format!("{ours} and {other} rows").into())
        }
    }
}

fn status(number: u64) -> String {
    format!("a status in epoch {number}")
}

/// Half of the keys of an epoch are those of the one before.
fn key(number: u64, row: u64) -> u64 {
    number * ROWS / 2 + row
}

fn landed(number: u64, builder: EpochBuilder) -> EpochBuilder {
    let (first, status) = (number * 100_000, status(number));
    (0..ROWS)
        .fold(builder, |builder, row| builder.created(first + row, (first + row) as i64, &status))
}

fn upserted(number: u64, builder: EpochBuilder) -> EpochBuilder {
    let status = status(number);
    (0..ROWS).fold(builder, |builder, row| builder.upserted(key(number, row) as i64, &status))
}

/// The time in `commit` of all epochs, which are numbered from above `before`.
async fn timed(
    sink: &mut PostgresSink,
    before: u64,
    fill: fn(u64, EpochBuilder) -> EpochBuilder,
) -> Outcome<Duration> {
    let mut took = Duration::ZERO;
    for number in 1..=EPOCHS {
        let commit = fill(number, epoch(before + number)).build();
        let started = Instant::now();
        sink.commit(&commit).await?;
        took += started.elapsed();
    }
    Ok(took)
}

/// Epochs as the pipeline has them written: first it asks for the rows that would be refused. The first
/// refusal that no type tells of shows at the commit.
async fn poisoned(sink: &mut PostgresSink, bad: &str) -> Outcome<Duration> {
    let mut took = Duration::ZERO;
    for number in 1..=EPOCHS {
        let first = number * 100_000;
        let filled = (0..ROWS).fold(epoch(number), |builder, row| {
            let status = if row % ONE_IN == 7 { bad } else { "fine" };
            builder.created(first + row, (first + row) as i64, status)
        });
        let commit = filled.build();
        let started = Instant::now();
        let commit = without_refused(sink, commit).await?;
        let written = sink.commit(&commit).await;
        if let Err(SinkError::RowsRefused { rows }) = &written {
            let levels = rows.iter().map(|row| (row.table.clone(), row.level));
            sink.raise_preflight(&levels.collect::<Vec<_>>());
            let commit = without_refused(sink, commit).await?;
            sink.commit(&commit).await?;
        } else {
            written?;
        }
        took += started.elapsed();
    }
    Ok(took)
}

async fn without_refused(sink: &mut PostgresSink, mut commit: EpochCommit) -> Outcome<EpochCommit> {
    let refused = sink.refused(&commit.landing).await?;
    let refused: BTreeSet<Offset> = refused.iter().map(|row| row.offset).collect();
    if !refused.is_empty() {
        let landing = commit.landing.into_iter().map(|changelog| {
            let is_refused = changelog.offsets.iter().map(|offset| refused.contains(offset));
            let is_refused: Vec<bool> = is_refused.collect();
            changelog.without(&is_refused)
        });
        commit.landing = landing.collect();
    }
    Ok(commit)
}
