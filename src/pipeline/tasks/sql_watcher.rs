//! The SQL folder while the processor runs: a good edit is taken over, a bad one is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, info};

use crate::config::Config;
use crate::model::ResultTable;
use crate::pipeline::error::PipelineError;
use crate::pipeline::schema::discovered_tables::DiscoveredTables;
use crate::pipeline::schema::target_compatibility::check_results;
use crate::pipeline::schema::target_compatibility::{self, WaitsForTarget};
use crate::pipeline::sql_folder::{Sql, load_sql_with};
use crate::resilience::{Recovery, chain};
use crate::sink::postgres::SchemaAdmin;
use crate::telemetry::names;
use crate::transform::{SqlError, Transforms, read_folder};

/// How often the files are read. They are few and small.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the folder says, file by file; `None` while it can't be read.
type Texts = Option<Vec<(PathBuf, String)>>;

/// Watches the folder; edits come out checked.
pub(in crate::pipeline) struct SqlWatcher {
    checked: mpsc::Receiver<Sql>,
    task: JoinHandle<()>,
}

impl SqlWatcher {
    /// `texts` are those of the SQL that is running.
    pub(in crate::pipeline) fn watch(config: &Config, (sql, texts): (&Sql, Texts)) -> Self {
        let (sender, checked) = mpsc::channel(1);
        let task = tokio::spawn(watch(config.clone(), (sql.clone(), texts), sender));
        Self { checked, task }
    }

    /// The next edit that can be taken over. Cancel-safe.
    pub(in crate::pipeline) async fn next(&mut self) -> Sql {
        match self.checked.recv().await {
            Some(sql) => sql,
            // The watcher runs until it is dropped.
            None => std::future::pending().await,
        }
    }
}

impl Drop for SqlWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(config: Config, (mut running, mut known): (Sql, Texts), sender: mpsc::Sender<Sql>) {
    let folder = &config.sql.folder;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = texts(folder).await;
        if now == known || now.is_none() {
            continue;
        }
        // An editor, a copy or a checkout may be half done.
        tokio::time::sleep(INTERVAL).await;
        if texts(folder).await != now {
            continue;
        }
        // Boxed, because it is large.
        let checked = Box::pin(check(&config, &running)).await;
        if matches!(&checked, Err(PipelineError::Sink(error)) if error.recovery() == Recovery::Retry)
        {
            // The target is away, so nobody knows yet.
            continue;
        }
        known = now;
        match checked {
            Ok(sql) => {
                counter!(names::SQL_EDITS, "outcome" => "taken").increment(1);
                info!("the SQL files were edited: taking them over");
                running = sql.clone();
                if sender.send(sql).await.is_err() {
                    return;
                }
            }
            Err(problem) => {
                counter!(names::SQL_EDITS, "outcome" => "refused").increment(1);
                error!(
                    problem = chain(&problem),
                    "the edited SQL files are refused, and what ran before goes on: correct them"
                );
            }
        }
    }
}

/// The text of every SQL file.
pub(in crate::pipeline) async fn texts(folder: &Path) -> Texts {
    let folder = folder.to_owned();
    let read = spawn_blocking(move || {
        let mut texts = Vec::new();
        for part in ["tables", "transforms", "ods"] {
            let files = read_folder(&folder.join(part)).ok()?;
            texts.extend(files.into_iter().map(|file| (file.path, file.text)));
        }
        Some(texts)
    });
    read.await.ok().flatten()
}

/// Everything that a start would refuse is refused here, while the old SQL still runs; and what would stop a
/// file that runs.
async fn check(config: &Config, running: &Sql) -> Result<Sql, PipelineError> {
    let policy = config.decode.unknown_tables;
    let sql = load_sql_with(&config.sql.folder, &config.xml, policy).await;
    let sql = sql.map_err(PipelineError::Sql)?;
    let mut admin = SchemaAdmin::new(config.sink.postgres.clone(), config.pipeline.as_str())?;
    let registry = admin.schema_changes().await?;
    let discovered = DiscoveredTables::landing(&sql, &registry, &mut admin).await?;
    let transforms = discovered.plan(&sql, &registry).await.map_err(PipelineError::Sql)?;
    let running = running.plan(&registry).await.map_err(PipelineError::Sql)?;
    refuse_waiting(&transforms, &running)?;
    let was_unfit = target_compatibility::unfit(&mut admin, &running).await?;
    admin.apply_ods(&sql.ods).await?;
    let tables = discovered.and_declared(&sql);
    let fitted = target_compatibility::plan(config, &mut admin, (&tables, &registry), &sql).await?;
    let transforms = fitted.transforms;
    let waited = |result: &str| {
        was_unfit.contains(result) || running.pending().iter().any(|known| known.result == result)
    };
    refuse_unfit(&transforms, fitted.waiting.iter().filter(|it| !waited(&it.result.name)))?;
    let results: Vec<Arc<ResultTable>> = transforms.results().cloned().collect();
    check_results(config, &results)?;
    admin.create_missing(&results).await?;
    admin.create_extracted(&sql.tables).await?;
    admin.check_targets(transforms.tables(), &results).await?;
    Ok(sql)
}

/// A file that waits from its first day on waits for its column. One that runs has a mistake in the edit.
fn refuse_waiting(edited: &Transforms, running: &Transforms) -> Result<(), PipelineError> {
    let runs = |result: &str| running.results().any(|known| known.name == result);
    let stopped = edited.pending().iter().filter(|waiting| runs(&waiting.result));
    let stopped: Vec<SqlError> = stopped.map(|waiting| waiting.reason.clone()).collect();
    if stopped.is_empty() { Ok(()) } else { Err(PipelineError::Sql(stopped)) }
}

/// A target that an edit does not fit is a mistake of the edit, unless the file waited before.
fn refuse_unfit<'a>(
    edited: &Transforms,
    unfit: impl Iterator<Item = &'a WaitsForTarget>,
) -> Result<(), PipelineError> {
    let names: Vec<&String> = unfit.map(|waits| &waits.result.name).collect();
    let waiting = edited.pending().iter().filter(|waiting| names.contains(&&waiting.result));
    let wrong: Vec<SqlError> = waiting.map(|waiting| waiting.reason.clone()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(PipelineError::Sql(wrong)) }
}

#[cfg(test)]
impl SqlWatcher {
    /// For sessions whose SQL is not in a folder.
    pub(in crate::pipeline) fn never() -> Self {
        let (_, checked) = mpsc::channel(1);
        Self { checked, task: tokio::spawn(std::future::ready(())) }
    }
}
