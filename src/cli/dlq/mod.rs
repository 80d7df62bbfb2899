//! `tidemark dlq`: dead letters are looked at, processed again and thrown away.

mod filter;
mod render;
mod replay;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::config;
use crate::sink::postgres::{LetterOrder, LetterStore, StoredLetter};
use filter::Filter;
use render::print;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The configuration file of the processor.
    #[arg(long, global = true, default_value = "tidemark.toml", env = "TIDEMARK_CONFIG")]
    config: PathBuf,
    /// One JSON object a line instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists dead letters, the newest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// The most letters.
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Shows one dead letter with its payload.
    Show { id: i64 },
    /// Counts dead letters by status, type, phase and table.
    Stats {
        #[command(flatten)]
        filter: Filter,
    },
    /// Writes dead letters as {dlq_metadata, original_payload}, one a line, the oldest first.
    Export {
        #[command(flatten)]
        filter: Filter,
        /// A new file; else standard output.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Has the running processor process dead letters again, with the SQL of today.
    Replay(replay::Arguments),
    /// Deletes dead letters for good.
    Purge {
        #[command(flatten)]
        filter: Filter,
        /// Those whose last failure is longer ago than this, as in 7d.
        #[arg(long, value_name = "TIME", conflicts_with = "until")]
        older_than: Option<humantime::Duration>,
        /// Without any filter: all of them, whatever became of them.
        #[arg(long)]
        all: bool,
    },
}

/// So many letters are read at once; fewer if they are large.
const PAGE: i64 = 500;

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut letters = store(&arguments.config)?;
    let json = arguments.json;
    match arguments.action {
        Action::List { filter, limit } => list(&mut letters, &filter, limit, json).await,
        Action::Show { id } => show(&mut letters, id, json).await,
        Action::Stats { filter } => {
            let counts = letters.count(&filter.any_status()?).await?;
            print(&render::counts(&counts, json)?)
        }
        Action::Export { filter, to } => export(&mut letters, &filter, to.as_deref()).await,
        Action::Replay(replay) => replay::run(&mut letters, replay, json).await,
        Action::Purge { filter, older_than, all } => {
            purge(&mut letters, &filter, older_than, all, json).await
        }
    }
}

fn store(path: &Path) -> anyhow::Result<LetterStore> {
    let config = config::load(path)?;
    Ok(LetterStore::new(config.sink.postgres, config.pipeline))
}

async fn list(
    letters: &mut LetterStore,
    filter: &Filter,
    limit: i64,
    json: bool,
) -> anyhow::Result<()> {
    let found = letters.list(&filter.open_ones()?, LetterOrder::Newest, limit).await?;
    print(&render::list(&found, json))?;
    let is_cut = found.len() as i64 == limit;
    if is_cut && !json {
        print(&format!("... the newest {limit}; --limit shows more, `stats` counts all\n"))?;
    }
    Ok(())
}

async fn show(letters: &mut LetterStore, id: i64, json: bool) -> anyhow::Result<()> {
    let filter = Filter::of_id(id).any_status()?;
    let found = letters.after(&filter, i64::MIN, 1).await?;
    let letter = found.first().with_context(|| format!("there is no dead letter {id}"))?;
    print(&render::letter(letter, json))
}

async fn export(
    letters: &mut LetterStore,
    filter: &Filter,
    to: Option<&Path>,
) -> anyhow::Result<()> {
    let mut out: Box<dyn Write + Send> = match to {
        Some(path) => Box::new(
            std::fs::File::create_new(path)
                .with_context(|| format!("{} can't be created", path.display()))?,
        ),
        None => Box::new(std::io::stdout()),
    };
    let (filter, mut after, mut count) = (filter.open_ones()?, 0, 0);
    loop {
        let page = letters.after(&filter, after, PAGE).await?;
        let Some(StoredLetter { id, .. }) = page.last() else { break };
        after = *id;
        count += page.len();
        for letter in page {
            out.write_all(letter.envelope().as_bytes())?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    match to {
        Some(path) => print(&format!("{count} dead letters in {}\n", path.display())),
        None => Ok(()),
    }
}

async fn purge(
    letters: &mut LetterStore,
    filter: &Filter,
    older_than: Option<humantime::Duration>,
    all: bool,
    json: bool,
) -> anyhow::Result<()> {
    if filter.is_empty() && older_than.is_none() && !all {
        bail!("which ones? Give --older-than, a filter, or --all");
    }
    let mut filter = filter.any_status()?;
    if let Some(age) = older_than {
        let before = std::time::SystemTime::now().checked_sub(*age);
        filter.until = Some(before.with_context(|| format!("{age} is longer than time itself"))?);
    }
    let purged = letters.purge(&filter).await?;
    print(&if json {
        format!("{}\n", serde_json::json!({"purged": purged}))
    } else {
        format!("{purged} dead letters deleted\n")
    })
}
