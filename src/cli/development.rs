//! Commands for development, which another program has: the production image holds the processor alone.
//!
//! `tidemark demo` starts `tidemark-dev demo` from the folder of its own program, as git does with its commands.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

const PROGRAM: &str = "tidemark-dev";

/// The commands, and what each of them does.
const COMMANDS: [(&str, &str); 6] = [
    ("broker", "Runs the development broker; production is a Solace PubSub+ broker"),
    ("api", "Runs a REST API that shows what transforms post; its faults can be switched"),
    ("generate", "Publishes Debezium events of five tables, or writes them to a file"),
    ("publish", "Publishes the messages of a file"),
    ("demo", "Runs broker, PostgreSQL, generator and processor here and shows what happens"),
    ("bench", "Measures catch-up, latency, memory and start-up on this machine"),
];

/// The part of the help about these commands.
pub fn help() -> String {
    let lines = COMMANDS.map(|(name, what)| format!("\n  {name:<9} {what}"));
    format!("Development commands, if the program {PROGRAM} is beside this one:{}", lines.concat())
}

/// Becomes the program of the development command that `arguments` name. Returns if they name none.
///
/// # Errors
/// If that program is not there or can't be started.
pub fn start_if_named(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    let arguments: Vec<OsString> = arguments.into_iter().skip(1).collect();
    let Some(command) = named(&arguments) else { return Ok(()) };
    let program = program().with_context(|| {
        format!("`tidemark {command}` is a development command, which the processor's program does not have")
    })?;
    let error = Command::new(&program).args(&arguments).exec();
    Err(error).with_context(|| format!("{} can't be started", program.display()))
}

fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    let program = own.with_file_name(PROGRAM);
    if !program.is_file() {
        bail!("{} is not there (`cargo build --workspace` makes it)", program.display());
    }
    Ok(program)
}

/// The development command that stands first, or that help is asked for.
fn named(arguments: &[OsString]) -> Option<&'static str> {
    let mut words = arguments.iter().filter_map(|argument| argument.to_str());
    let mut first = words.next()?;
    while first.starts_with("--log-format") {
        if first == "--log-format" {
            words.next()?;
        }
        first = words.next()?;
    }
    let command = if first == "help" { words.next()? } else { first };
    COMMANDS.iter().map(|(name, _)| *name).find(|name| *name == command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_by(line: &str) -> Option<&'static str> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        named(&arguments)
    }

    #[test]
    fn a_development_command_is_found_wherever_clap_would_find_it() {
        assert_eq!(named_by("generate --rate max"), Some("generate"));
        assert_eq!(named_by("help demo"), Some("demo"));
        assert_eq!(named_by("--log-format json broker"), Some("broker"));
        assert_eq!(named_by("--log-format=json api --listen demo"), Some("api"));
    }

    #[test]
    fn the_processors_commands_and_their_arguments_are_none() {
        for line in
            ["", "run --config demo", "check --sql generate", "help", "--help demo", "bencher"]
        {
            assert_eq!(named_by(line), None, "{line}");
        }
    }
}
