//! Commands for development: the broker, the API, the generator, the demo and the benchmark.
//!
//! [`stack`] runs broker, PostgreSQL and processor as processes of this machine, and [`generator`] makes events.
//! The processor is started as a program: nothing here depends on its code.

#![forbid(unsafe_code)]

mod api;
mod bench;
mod broker;
mod broker_arguments;
mod demo;
mod generate;
pub mod generator;
mod programs;
mod publish;
pub mod stack;

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the development broker; production is a Solace PubSub+ broker.
    Broker(broker::Arguments),
    /// Runs a REST API for development that shows what transforms post; its faults can be switched.
    Api(api::Arguments),
    /// Publishes Debezium events of five tables, or writes them to a file.
    Generate(Box<generate::Arguments>),
    /// Publishes the messages of a file.
    Publish(publish::Arguments),
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
}

/// Runs a command to its end.
///
/// # Errors
/// What the user is to read.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Broker(arguments) => broker::run(arguments).await,
        Command::Api(arguments) => api::run(&arguments).await,
        Command::Generate(arguments) => generate::run(*arguments).await,
        Command::Publish(arguments) => publish::run(arguments).await,
        Command::Demo { psql: true, .. } => demo::psql().await,
        Command::Demo { seconds, sql, psql: false } => demo::run(seconds, &sql).await,
        Command::Bench { events, seconds, sql } => bench::run(events, seconds, &sql).await,
    }
}
