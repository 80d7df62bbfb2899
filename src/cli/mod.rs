//! The subcommands: what was typed, turned into calls of the parts.

mod api;
mod bench;
mod broker;
mod check;
mod demo;
mod dlq;
mod doctor;
mod generate;
mod health;
mod profile;
mod run;
mod signals;
pub mod stack;
mod test_sql;
mod try_sql;

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the processor: from the queue into Postgres, until SIGTERM.
    Run {
        /// The configuration file.
        #[arg(long, default_value = "tidemark.toml", env = "TIDEMARK_CONFIG")]
        config: PathBuf,
    },
    /// Checks SQL files without any connection: types, keys, order, and how each result is maintained.
    Check(check::Arguments),
    /// Runs the *.test.yaml files beside the SQL: events in, rows out, however batches and restarts fall.
    Test(test_sql::Arguments),
    /// Shows how each column of a table is decoded, and from which evidence.
    Profile(profile::Arguments),
    /// Runs the SQL over the next messages of the queue, or of a file, and writes and consumes nothing.
    Try(try_sql::Arguments),
    /// Looks at broker, PostgreSQL, API and checkpoint storage, and says for each problem what to do.
    Doctor(doctor::Arguments),
    /// Lists, shows, exports, replays and purges dead letters.
    Dlq(dlq::Arguments),
    /// Runs the development broker; production is a Solace PubSub+ broker.
    Broker(broker::Arguments),
    /// Runs a REST API for development that shows what transforms post; its faults can be switched.
    Api(api::Arguments),
    /// Publishes Debezium events of five tables, or writes them to a file.
    Generate(generate::Arguments),
    /// Runs broker, PostgreSQL, generator and processor here and shows what happens.
    Demo {
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The folder with tables/, transforms/ and ods/.
        #[arg(long, default_value = "sql")]
        sql: PathBuf,
        /// Opens psql on the database that the last demo left, instead.
        #[arg(long)]
        psql: bool,
    },
    /// Measures catch-up, latency, memory and start-up, with broker and PostgreSQL on this machine.
    Bench {
        /// Size of the backlog.
        #[arg(long, default_value_t = 300_000)]
        events: u64,
        /// Length of the paced part.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The folder with tables/, transforms/ and ods/.
        #[arg(long, default_value = "sql")]
        sql: PathBuf,
    },
    /// Asks a running processor whether it is ready; for container health checks.
    Health {
        /// Address of the processor's HTTP page.
        #[arg(long, default_value = "127.0.0.1:8080")]
        address: String,
    },
}

/// Runs a subcommand to its end.
///
/// # Errors
/// What the user is to read.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { config } => Box::pin(run::run(&config)).await,
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Test(arguments) => test_sql::run(&arguments).await,
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Try(arguments) => try_sql::run(arguments).await,
        Command::Doctor(arguments) => doctor::run(&arguments).await,
        Command::Dlq(arguments) => dlq::run(arguments).await,
        Command::Broker(arguments) => broker::run(arguments).await,
        Command::Api(arguments) => api::run(&arguments).await,
        Command::Generate(arguments) => generate::run(arguments).await,
        Command::Demo { psql: true, .. } => demo::psql().await,
        Command::Demo { seconds, sql, psql: false } => demo::run(seconds, &sql).await,
        Command::Bench { events, seconds, sql } => bench::run(events, seconds, &sql).await,
        Command::Health { address } => health::run(&address).await,
    }
}
