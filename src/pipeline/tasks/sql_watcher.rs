//! The SQL folder while the processor runs: a good edit is taken over, a bad one is refused. Files of `ods/` are run by
//! none: they wait for a start or for `tidemark apply`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::model::ResultTable;
use crate::pipeline::error::PipelineError;
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::schema::discovered_tables::DiscoveredTables;
use crate::pipeline::schema::target_compatibility::{check_results, learned, set_unfit_aside};
use crate::pipeline::sql_folder::{PlannedSql, SqlFolders, SqlPlan};
use crate::resilience::{Recovery, chain};
use crate::sink::postgres::SchemaAdmin;
use crate::telemetry::{Condition, Health, names};
use crate::transform::{SqlError, SqlFile, Transforms};

/// How often the files are read. They are few and small.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a target that an edit does not fit is left alone before it is looked at again.
const RETRY: Duration = Duration::from_secs(5);

/// What the folder says, file by file; `None` while it can't be read.
pub(crate) type Texts = Option<FolderTexts>;

/// The text of every SQL file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FolderTexts {
    /// Of tables and transforms.
    queries: Vec<(PathBuf, String)>,
    ods: Vec<(PathBuf, String)>,
}

/// Why an edit is not taken over.
enum Refusal {
    /// The files are wrong; only another edit heals that.
    OfFiles(PipelineError),
    /// The target is not as the files want it.
    OfTarget(PipelineError),
}

impl Refusal {
    fn error(&self) -> &PipelineError {
        match self {
            Self::OfFiles(error) | Self::OfTarget(error) => error,
        }
    }
}

impl<E> From<E> for Refusal
where
    PipelineError: From<E>,
{
    fn from(error: E) -> Self {
        Self::OfTarget(error.into())
    }
}

/// An edit that is good, and what of it is not run.
struct PreparedEdit {
    sql: PlannedSql,
    pending_files: Vec<String>,
}

/// What is known of the edit at hand.
struct LastEdit {
    texts: Texts,
    /// What is wrong with it, if the target is: it is tried again.
    refused: Option<String>,
}

/// Watches the folder; edits come out checked and planned.
pub(crate) struct SqlWatcher {
    edits: mpsc::Receiver<PlannedSql>,
    running: RunningSql,
    task: JoinHandle<()>,
}

impl SqlWatcher {
    /// `texts` are those of the SQL that is running.
    pub(crate) fn watch(
        config: &Config,
        access: &PostgresAccess,
        health: &Health,
        texts: Texts,
    ) -> Self {
        let (sender, edits) = mpsc::channel(1);
        let running = RunningSql::default();
        let (config, access, health) = (config.clone(), access.clone(), health.clone());
        let (running_now, taken) = (running.clone(), texts.clone());
        let known = LastEdit { texts, refused: None };
        let folder = WatchedFolder { config, access, health, running: running_now, known, taken };
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
    health: Health,
    running: RunningSql,
    /// What was taken over or refused last.
    known: LastEdit,
    /// What runs.
    taken: Texts,
}

impl WatchedFolder {
    async fn watch(mut self, sender: mpsc::Sender<PlannedSql>) {
        let folders = SqlFolders::from(&self.config.sql);
        let mut tried = Instant::now();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = texts(&folders).await;
            let is_due = self.known.refused.is_some() && tried.elapsed() >= RETRY;
            if now.is_none() || (now == self.known.texts && !is_due) {
                continue;
            }
            if now != self.known.texts {
                // An editor, a copy or a checkout may be half done.
                tokio::time::sleep(INTERVAL).await;
                if texts(&folders).await != now {
                    continue;
                }
            }
            // Boxed, because it is large.
            let prepared = Box::pin(self.prepare()).await;
            tried = Instant::now();
            match prepared {
                Ok(edit) => {
                    self.accept();
                    let is_other = self.is_other(&now);
                    self.known = LastEdit { texts: now.clone(), refused: None };
                    tell_pending(&edit.pending_files);
                    if !is_other {
                        continue;
                    }
                    self.taken = now;
                    counter!(names::SQL_EDITS, "outcome" => "taken").increment(1);
                    info!("the SQL files were edited: taking them over");
                    if sender.send(edit.sql).await.is_err() {
                        return;
                    }
                }
                Err(refusal) => self.refuse(now, &refusal),
            }
        }
    }

    fn accept(&self) {
        self.health.clear(Condition::Edit);
        gauge!(names::EDIT_REFUSED).set(0.0);
    }

    /// Whether tables or transforms differ from those that run.
    fn is_other(&self, now: &Texts) -> bool {
        let queries = |texts: &Texts| texts.as_ref().map(|texts| texts.queries.clone());
        queries(now) != queries(&self.taken)
    }

    /// Says what is wrong with an edit, once, and on the status page for as long as it is so.
    fn refuse(&mut self, texts: Texts, refusal: &Refusal) {
        let error = refusal.error();
        if matches!(error, PipelineError::Sink(error) if error.recovery() == Recovery::Retry) {
            // The target is away, so this is not known yet.
            return;
        }
        let problem = chain(error);
        let is_told = self.known.texts == texts && self.known.refused.as_ref() == Some(&problem);
        if !is_told {
            counter!(names::SQL_EDITS, "outcome" => "refused").increment(1);
            error!(
                problem,
                "the edited SQL files are refused, and what ran before goes on: correct them, or their target"
            );
        }
        gauge!(names::EDIT_REFUSED).set(1.0);
        let reason = format!("the SQL files are refused, and what ran before goes on: {problem}");
        self.health.degrade(Condition::Edit, reason);
        let refused = match refusal {
            Refusal::OfFiles(_) => None,
            Refusal::OfTarget(_) => Some(problem),
        };
        self.known = LastEdit { texts, refused };
    }

    /// Checks the edit and prepares the target for it, while the old SQL still runs. Everything that a start
    /// would refuse is refused here, and what would stop a file that runs.
    ///
    /// No file of `sql/ods` is run. While one is pending, no table is created either: the file may be about to.
    async fn prepare(&self) -> Result<PreparedEdit, Refusal> {
        let Config { sql: section, xml, decode, .. } = &self.config;
        let loaded = PlannedSql::load(&SqlFolders::from(section), xml, decode.unknown_tables).await;
        let planned = loaded.map_err(|errors| Refusal::OfFiles(PipelineError::Sql(errors)))?;
        let mut admin = self.access.schema_admin()?;
        let pending_files = admin.pending_ods(&planned.sql.ods).await?;
        if pending_files.is_empty() {
            let sql = Box::pin(self.fit(planned, admin)).await?;
            return Ok(PreparedEdit { sql, pending_files });
        }
        let examiner = self.access.schema_examiner()?;
        match Box::pin(self.fit(planned, examiner)).await {
            Ok(sql) => Ok(PreparedEdit { sql, pending_files }),
            Err(PipelineError::Sink(error)) if error.recovery() == Recovery::Retry => {
                Err(error.into())
            }
            Err(error) => Err(Refusal::OfTarget(PipelineError::PendingFiles {
                files: pending_files,
                source: Box::new(error),
            })),
        }
    }

    /// What is wrong with the files alone is found before anything is changed.
    async fn fit(
        &self,
        planned: PlannedSql,
        mut admin: SchemaAdmin,
    ) -> Result<PlannedSql, PipelineError> {
        let PlannedSql { sql, plan } = planned;
        let rest = self.config.sink.rest.as_ref();
        let registry = admin.schema_changes().await?;
        let discovered = DiscoveredTables::landing(&sql, &registry, &mut admin).await?;
        let tables = discovered.and_declared(&sql);
        let plan = SqlPlan::renewed(plan, &sql, &tables, &registry).await?;
        let running = self.running.get();
        refuse_pending(&plan.transforms, &running.planned)?;
        let may_wait = |result: &&Arc<ResultTable>| plan.transforms.may_wait(&result.name);
        let fixed: Vec<_> =
            plan.transforms.results().filter(|result| !may_wait(result)).cloned().collect();
        check_results(rest, &fixed)?;
        let mut waited = running.pending;
        waited.extend(admin.unfit(&running.learned).await?.into_keys());

        admin.create_landing(&sql.tables).await?;
        let edited = RunningResults::of(&plan.transforms);
        let mut plan = plan;
        let fitted = set_unfit_aside(plan.transforms, &mut admin, rest).await?;
        let unfit = fitted.waiting.iter().map(|waits| &waits.result.name);
        refuse_unfit(&fitted.transforms, unfit.filter(|result| !waited.contains(*result)))?;
        let results: Vec<Arc<ResultTable>> = fitted.transforms.results().cloned().collect();
        admin.create_missing(&results).await?;
        admin.check_targets(fitted.transforms.tables(), &results).await?;
        self.running.set(edited);
        plan.transforms = fitted.transforms;
        // What is set aside now may fit at the start.
        Ok(PlannedSql { sql, plan: fitted.waiting.is_empty().then_some(plan) })
    }
}

fn tell_pending(files: &[String]) {
    if !files.is_empty() {
        let files = files.join(", ");
        warn!(
            files,
            "new files of sql/ods are not run now: restart the processor, or tidemark apply"
        );
    }
}

/// The text of every SQL file.
pub(crate) async fn texts(folders: &SqlFolders) -> Texts {
    let folders = folders.clone();
    let read = spawn_blocking(move || {
        let texts = |files: Vec<SqlFile>| -> Vec<(PathBuf, String)> {
            files.into_iter().map(|file| (file.path, file.text)).collect()
        };
        let tables = texts(folders.read("tables").ok()?);
        let transforms = texts(folders.read_transforms().ok()?);
        let ods = texts(folders.read("ods").ok()?);
        Some(FolderTexts { queries: [tables, transforms].concat(), ods })
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
