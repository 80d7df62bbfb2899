//! `tidemark test`: the `*.test.yaml` files beside the SQL.
//!
//! A test gives events and says which rows the results show after them. It is run in every way in which
//! a stream may be cut into batches and interrupted by a restart, because a result that depends on that
//! is wrong. `yaml` reads the file, `script` understands it, `event` writes the payloads, `variation` says
//! how it is run, `run` runs it on the pipeline's own parts, and `compare` shows what differs.

mod compare;
mod event;
mod run;
mod script;
mod variation;
mod yaml;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use crate::config::sql_sections;
use crate::model::Table;
use crate::pipeline::{self, Sql};
use crate::transform::{SqlError, learned_columns};
use run::Stopped;

const SUFFIX: &str = ".test.yaml";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder with tables/ and transforms/.
    #[arg(long, default_value = "sql")]
    sql: PathBuf,
    /// A tidemark.toml, whose [[xml]] sections declare tables too; nothing else of it is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The test files to run; all *.test.yaml under the folder if there is none.
    files: Vec<PathBuf>,
}

/// How the tests of some files went.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

/// `tidemark test`.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let files =
        if arguments.files.is_empty() { find(&arguments.sql)? } else { arguments.files.clone() };
    if files.is_empty() {
        let folder = arguments.sql.display();
        bail!("there is no test: write one beside its SQL, as in {folder}/transforms/NAME{SUFFIX}");
    }
    let sql = load(&arguments.sql, arguments.config.as_deref()).await?;
    let mut out = std::io::stdout();
    // Hundreds of processors start; what a test is to tell, its failure tells.
    let tests = run_files(&files, &sql, &mut out).with_subscriber(NoSubscriber::default());
    let outcome = tests.await?;
    writeln!(out, "\n{} passed, {} failed", outcome.passed, outcome.failed)?;
    match outcome.failed {
        0 => Ok(()),
        failed => bail!("{failed} SQL test(s) failed"),
    }
}

/// The SQL folder, and the clock that `time:` moves.
async fn load(folder: &Path, config: Option<&Path>) -> anyhow::Result<Sql> {
    let sections = config.map(sql_sections).transpose()?.unwrap_or_default();
    let policy = sections.decode.unknown_tables;
    let sql = pipeline::load_sql_with(folder, &sections.xml, policy).await;
    let mut sql = sql.map_err(|errors| problems(&errors))?;
    sql.tables.push(event::clock_table());
    Ok(sql)
}

/// The same with the columns that the files say are learned, which rows of tests may have.
fn with_learned(sql: &Sql) -> anyhow::Result<Sql> {
    let learned =
        learned_columns(&sql.transforms, &sql.tables).map_err(|errors| problems(&errors))?;
    let mut shown = sql.clone();
    for column in learned {
        let is_its = |table: &&mut Arc<Table>| table.source == column.source;
        if let Some(table) = shown.tables.iter_mut().find(is_its) {
            let name = column.column.to_lowercase();
            *table = Arc::new(table.with_extra(&name, &column.column, column.seen.data_type()));
        }
    }
    Ok(shown)
}

fn problems(errors: &[SqlError]) -> anyhow::Error {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    anyhow!("{} problem(s) in the SQL files:\n  {}", lines.len(), lines.join("\n  "))
}

/// The test files of a folder and of those in it, by name.
fn find(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let unreadable = || format!("{} can't be read", folder.display());
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.is_dir() {
            files.extend(find(&path)?);
        } else if path.to_string_lossy().ends_with(SUFFIX) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

async fn run_files(
    files: &[PathBuf],
    sql: &Sql,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Tally> {
    let mut outcome = Tally::default();
    let shown = with_learned(sql)?;
    for path in files {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} can't be read", path.display()))?;
        let tests = match script::read(&text, &shown) {
            Ok(tests) => tests,
            Err(problem) => {
                outcome.failed += 1;
                writeln!(out, "FAILED  {}", Stopped::File(problem.in_file(path)))?;
                continue;
            }
        };
        for test in &tests {
            match Box::pin(run::run(path, test, sql)).await {
                Ok(ways) => {
                    outcome.passed += 1;
                    writeln!(out, "ok      {}: {} ({ways} runs)", path.display(), test.name)?;
                }
                Err(stopped) => {
                    outcome.failed += 1;
                    writeln!(out, "FAILED  {stopped}")?;
                }
            }
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests;
