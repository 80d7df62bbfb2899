//! The subcommands: what was typed, turned into calls of the parts.

mod apply;
mod check;
pub mod development;
mod dlq;
mod doctor;
mod health;
mod profile;
mod run;
mod test_sql;
mod try_sql;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the processor: from the queue into Postgres, until SIGTERM.
    Run(run::Arguments),
    /// Checks SQL files without any connection: types, keys, order, and how each result is maintained.
    Check(check::Arguments),
    /// Applies the files of sql/ods that were not applied yet and creates missing tables, as a start does.
    Apply(apply::Arguments),
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
        Command::Run(arguments) => Box::pin(run::run(&arguments)).await,
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Apply(arguments) => Box::pin(apply::run(&arguments)).await,
        Command::Test(arguments) => test_sql::run(&arguments).await,
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Try(arguments) => Box::pin(try_sql::run(arguments)).await,
        Command::Doctor(arguments) => doctor::run(&arguments).await,
        Command::Dlq(arguments) => dlq::run(arguments).await,
        Command::Health { address } => health::run(&address).await,
    }
}
