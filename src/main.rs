//! The `tidemark` command.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tidemark::cli::{Command, development, run};
use tidemark_base::{LogFormat, init_logs};

/// Oracle change events from a Solace queue, kept exact in PostgreSQL.
#[derive(Debug, Parser)]
#[command(version, about, after_help = development::help())]
struct Arguments {
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value = "text", env = "TIDEMARK_LOG_FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if let Err(error) = development::start_if_named(std::env::args_os()) {
        return fail(&format!("{error:#}"));
    }
    let arguments = Arguments::parse();
    init_logs(arguments.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no runtime could be started: {error}")),
    };
    match runtime.block_on(run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn fail(message: &str) -> ExitCode {
    // Nobody is left to tell if standard error is closed.
    let _closed = writeln!(std::io::stderr(), "tidemark: {message}");
    ExitCode::FAILURE
}
