//! `tidemark try`: the SQL over the next messages of the queue, or of a file, and nothing is written or consumed.

mod render;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::config::{self, Config};
use crate::decode::DecodeConfig;
use crate::model::Message;
use crate::pipeline::{DryRun, SqlFolders, load_sql_with};
use crate::source::file::{FileConfig, FileSource};
use crate::source::solace::browse;
use crate::source::{Source, SourceConfig, SourceEvent};

#[derive(Debug, Args)]
pub struct Arguments {
    /// How many messages.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// A file with one payload a line, or a folder of *.ndjson files, instead of the queue.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// The configuration file of the processor: its queue, its decoding and its SQL folder. Not needed with
    /// --events.
    #[arg(long, env = "TIDEMARK_CONFIG")]
    config: Option<PathBuf>,
    /// Another SQL folder than that of the configuration.
    #[arg(long)]
    sql: Option<PathBuf>,
    /// The most rows of one result that are shown.
    #[arg(long, default_value_t = 20)]
    rows: usize,
    /// How long to wait for a further message of the queue.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    wait: humantime::Duration,
    /// One JSON object a line instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = read_config(&arguments)?;
    let folders = match (&arguments.sql, &config) {
        (Some(folder), _) => SqlFolders::from(folder),
        (None, Some(config)) => SqlFolders::from(&config.sql),
        (None, None) => SqlFolders::from(&PathBuf::from("sql")),
    };
    let xml = config.as_ref().map_or(&[][..], |config| &config.xml);
    let decode = config.as_ref().map_or_else(DecodeConfig::default, |config| config.decode.clone());
    let sql = load_sql_with(folders, xml, decode.unknown_tables).await.map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })?;
    let (messages, place) = messages(&arguments, config.as_ref()).await?;
    let count = messages.len();
    let mut rehearsal = DryRun::start_with(&sql, decode).await?;
    let learned = rehearsal.feed_messages(messages).await?;
    let schema = config.as_ref().map_or("public", |config| config.sink.postgres.schema.as_str());
    let outcome = render::TriedSql { sql: &sql, rehearsal: &rehearsal, learned, schema };
    let text = if arguments.json {
        outcome.json()?
    } else {
        format!("{count} messages of {place}\n\n{}", outcome.text(arguments.rows)?)
    };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// The default file need not be there, if the events come from a file.
fn read_config(arguments: &Arguments) -> anyhow::Result<Option<Config>> {
    let path = match (&arguments.config, &arguments.events) {
        (Some(path), _) => path.clone(),
        (None, Some(_)) => return Ok(None),
        (None, None) => PathBuf::from("tidemark.toml"),
    };
    Ok(Some(config::load(&path)?))
}

async fn messages(
    arguments: &Arguments,
    config: Option<&Config>,
) -> anyhow::Result<(Vec<Message>, String)> {
    let count = arguments.count as usize;
    let of_file = match (&arguments.events, config.map(|config| &config.source)) {
        (Some(path), _) => FileConfig { path: path.clone() },
        (None, Some(SourceConfig::File(file))) => file.clone(),
        (None, Some(SourceConfig::Solace(source))) => {
            let wait: Duration = *arguments.wait;
            let messages = browse(source, count, wait).await;
            let messages =
                messages.with_context(|| format!("looking at queue {}", source.queue))?;
            return Ok((messages, format!("queue {}, which keeps them", source.queue)));
        }
        (None, None) => bail!("give --events or --config"),
    };
    let place = of_file.path.display().to_string();
    let mut source = FileSource::open(&of_file)?;
    let mut messages = Vec::new();
    while messages.len() < count
        && let Some(event) = source.recv().await?
    {
        if let SourceEvent::Message(message) = event {
            messages.push(message);
        }
    }
    Ok((messages, place))
}

#[cfg(test)]
mod tests;
