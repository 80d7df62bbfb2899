//! The SQL folder while the processor runs: a good edit is taken over, a bad one is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, info};

use crate::config::Config;
use crate::model::ResultTable;
use crate::pipeline::error::PipelineError;
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::schema::discovered_tables::DiscoveredTables;
use crate::pipeline::schema::target_compatibility::{check_results, learned, set_unfit_aside};
use crate::pipeline::sql_folder::{PlannedSql, SqlPlan};
use crate::resilience::{Recovery, chain};
use crate::telemetry::names;
use crate::transform::{SqlError, Transforms, read_folder};

/// How often the files are read. They are few and small.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the folder says, file by file; `None` while it can't be read.
type Texts = Option<Vec<(PathBuf, String)>>;

/// Watches the folder; edits come out checked and planned.
pub(crate) struct SqlWatcher {
    edits: mpsc::Receiver<PlannedSql>,
    running: RunningSql,
    task: JoinHandle<()>,
}

impl SqlWatcher {
    /// `texts` are those of the SQL that is running.
    pub(crate) fn watch(config: &Config, access: &PostgresAccess, texts: Texts) -> Self {
        let (sender, edits) = mpsc::channel(1);
        let running = RunningSql::default();
        let (config, access) = (config.clone(), access.clone());
        let folder = WatchedFolder { config, access, running: running.clone(), known: texts };
        Self { edits, running, task: tokio::spawn(folder.watch(sender)) }
    }

    /// Tells what runs from now on, so that an edit does not stop it.
    pub(crate) fn note_running(&self, transforms: &Transforms) {
        self.running.set(RunningResults::of(transforms));
    }

    /// The next edit that can be taken over. Cancel-safe.
    pub(crate) async fn next(&mut self) -> PlannedSql {
        match self.edits.recv().await {
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

/// What an edit is compared with.
#[derive(Debug, Clone, Default)]
struct RunningResults {
    /// Those that run, or wait for their targets alone.
    planned: BTreeSet<String>,
    /// Those that wait for a column or a table.
    pending: BTreeSet<String>,
    /// Of the planned ones, those on whose columns events have a say.
    learned: Vec<Arc<ResultTable>>,
}

impl RunningResults {
    fn of(transforms: &Transforms) -> Self {
        let pending = transforms.pending().iter().map(|pending| pending.result.clone());
        Self {
            planned: transforms.results().map(|result| result.name.clone()).collect(),
            pending: pending.collect(),
            learned: learned(transforms),
        }
    }
}

/// Told by each session, read by the watcher.
#[derive(Debug, Clone, Default)]
struct RunningSql(Arc<Mutex<RunningResults>>);

impl RunningSql {
    fn get(&self) -> RunningResults {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, results: RunningResults) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = results;
    }
}

struct WatchedFolder {
    config: Config,
    access: PostgresAccess,
    running: RunningSql,
    /// What was taken over or refused last.
    known: Texts,
}

impl WatchedFolder {
    async fn watch(mut self, sender: mpsc::Sender<PlannedSql>) {
        let folder = self.config.sql.folder.clone();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = texts(&folder).await;
            if now == self.known || now.is_none() {
                continue;
            }
            // An editor, a copy or a checkout may be half done.
            tokio::time::sleep(INTERVAL).await;
            if texts(&folder).await != now {
                continue;
            }
            // Boxed, because it is large.
            let prepared = Box::pin(self.prepare()).await;
            if matches!(&prepared, Err(PipelineError::Sink(error)) if error.recovery() == Recovery::Retry)
            {
                // The target is away, so this is not known yet.
                continue;
            }
            self.known = now;
            match prepared {
                Ok(sql) => {
                    counter!(names::SQL_EDITS, "outcome" => "taken").increment(1);
                    info!("the SQL files were edited: taking them over");
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

    /// Checks the edit and prepares the target for it, while the old SQL still runs. Everything that a start
    /// would refuse is refused here, and what would stop a file that runs.
    ///
    /// What is wrong with the files alone is found before anything is changed. What is wrong with the target is
    /// found after the migrations of the same edit, because these may put it right.
    async fn prepare(&self) -> Result<PlannedSql, PipelineError> {
        let Config { sql: section, xml, decode, sink: targets, .. } = &self.config;
        let loaded = PlannedSql::load(&section.folder, xml, decode.unknown_tables).await;
        let PlannedSql { sql, plan } = loaded.map_err(PipelineError::Sql)?;
        let mut admin = self.access.schema_admin()?;
        let registry = admin.schema_changes().await?;
        let discovered = DiscoveredTables::landing(&sql, &registry, &mut admin).await?;
        let tables = discovered.and_declared(&sql);
        let plan = SqlPlan::renewed(plan, &sql, &tables, &registry).await?;
        let running = self.running.get();
        refuse_pending(&plan.transforms, &running.planned)?;
        let may_wait = |result: &&Arc<ResultTable>| plan.transforms.may_wait(&result.name);
        let fixed: Vec<_> =
            plan.transforms.results().filter(|result| !may_wait(result)).cloned().collect();
        check_results(targets.rest.as_ref(), &fixed)?;
        let mut waited = running.pending;
        waited.extend(admin.unfit(&running.learned).await?.into_keys());

        admin.apply_ods(&sql.ods).await?;
        let edited = RunningResults::of(&plan.transforms);
        let mut plan = plan;
        let fitted = set_unfit_aside(plan.transforms, &mut admin, targets.rest.as_ref()).await?;
        let unfit = fitted.waiting.iter().map(|waits| &waits.result.name);
        refuse_unfit(&fitted.transforms, unfit.filter(|result| !waited.contains(*result)))?;
        let results: Vec<Arc<ResultTable>> = fitted.transforms.results().cloned().collect();
        admin.create_missing(&results).await?;
        admin.create_extracted(&sql.tables).await?;
        admin.check_targets(fitted.transforms.tables(), &results).await?;
        self.running.set(edited);
        plan.transforms = fitted.transforms;
        // What is set aside now may fit at the start.
        Ok(PlannedSql { sql, plan: fitted.waiting.is_empty().then_some(plan) })
    }
}

/// The text of every SQL file.
pub(crate) async fn texts(folder: &Path) -> Texts {
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

/// A file that waits from its first day on waits for its column. One that runs has a mistake in the edit.
fn refuse_pending(edited: &Transforms, running: &BTreeSet<String>) -> Result<(), PipelineError> {
    let stopped = edited.pending().iter().filter(|pending| running.contains(&pending.result));
    let stopped: Vec<SqlError> = stopped.map(|pending| pending.reason.clone()).collect();
    if stopped.is_empty() { Ok(()) } else { Err(PipelineError::Sql(stopped)) }
}

/// A target that an edit does not fit is a mistake of the edit, unless the file waited before.
fn refuse_unfit<'a>(
    edited: &Transforms,
    unfit: impl Iterator<Item = &'a String>,
) -> Result<(), PipelineError> {
    let names: Vec<&String> = unfit.collect();
    let pending = edited.pending().iter().filter(|pending| names.contains(&&pending.result));
    let wrong: Vec<SqlError> = pending.map(|pending| pending.reason.clone()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(PipelineError::Sql(wrong)) }
}

#[cfg(test)]
impl SqlWatcher {
    /// For sessions whose SQL is not in a folder.
    pub(crate) fn never() -> Self {
        let (_, edits) = mpsc::channel(1);
        let task = tokio::spawn(std::future::ready(()));
        Self { edits, running: RunningSql::default(), task }
    }
}
