//! The `tidemark-dev` command: `tidemark` starts it for its development commands.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tidemark_base::{LogFormat, init_logs};
use tidemark_dev::{Command, run};

/// Development commands of Tidemark.
#[derive(Debug, Parser)]
#[command(name = "tidemark", bin_name = "tidemark", version, about)]
struct Arguments {
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value = "text", env = "TIDEMARK_LOG_FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    init_logs(arguments.log_format);
    match run(arguments.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if standard error is closed.
            let _closed = writeln!(std::io::stderr(), "tidemark: {error:#}");
            ExitCode::FAILURE
        }
    }
}
