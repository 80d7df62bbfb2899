//! Results whose targets no longer take what their SELECT gives, because events have shown columns that no file
//! declares, or another type of these: such a file waits, with those that read it, and the others run.
//!
//! What does not fit without any event having a say in it is a mistake, and an error of the start or of the edit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::info;

use crate::config::Config;
use crate::model::{Channel, ResultTable, SchemaChange, Table};
use crate::pipeline::error::PipelineError;
use crate::pipeline::sql_folder::Sql;
use crate::resilience::chain;
use crate::sink::SinkError;
use crate::sink::postgres::{SchemaAdmin, Unfit};
use crate::transform::Transforms;

/// How often the catalog is asked whether a target fits again; it costs a few look-ups per result that waits.
const INTERVAL: Duration = Duration::from_secs(3);

/// What runs, and what waits for its target.
pub(in crate::pipeline) struct Fitted {
    pub(in crate::pipeline) transforms: Transforms,
    pub(in crate::pipeline) waiting: Vec<WaitsForTarget>,
}

/// A result that waits for its target.
#[derive(Debug, Clone)]
pub(in crate::pipeline) struct WaitsForTarget {
    pub(in crate::pipeline) result: Arc<ResultTable>,
    has_table: bool,
}

/// Plans the files; those that may wait and whose targets don't take their rows are left out. Tables of the
/// former that are not there are created.
///
/// # Errors
/// What is wrong in files on whose columns events have no say, and a target that is away.
pub(in crate::pipeline) async fn plan(
    config: &Config,
    admin: &mut SchemaAdmin,
    (tables, registry): (&[Arc<Table>], &[SchemaChange]),
    sql: &Sql,
) -> Result<Fitted, PipelineError> {
    let mut transforms =
        Transforms::plan(sql.plan_request(tables, registry)).await.map_err(PipelineError::Sql)?;
    let mut reasons = BTreeMap::new();
    let learned = learned(&transforms);
    for result in &learned {
        if let Err(error) = check_results(config, std::slice::from_ref(result)) {
            reasons.insert(result.name.clone(), chain(&error));
        }
    }
    let refused = admin.create_each(&learned).await?;
    let unfit = admin.unfit(&learned).await?;
    let has_table = |result: &ResultTable| unfit.get(&result.name).is_none_or(|it| !it.is_missing);
    let waits = |result: Arc<ResultTable>| WaitsForTarget { has_table: has_table(&result), result };
    reasons.extend(unfit.iter().map(|(result, unfit)| (result.clone(), unfit.reason.clone())));
    reasons.extend(refused);
    transforms.set_aside(&reasons);
    let waiting = learned.into_iter().filter(|result| reasons.contains_key(&result.name));
    Ok(Fitted { transforms, waiting: waiting.map(waits).collect() })
}

/// The names of results that wait for their targets, as far as this can be told without creating any.
///
/// # Errors
/// If the target is away.
pub(in crate::pipeline) async fn unfit(
    admin: &mut SchemaAdmin,
    transforms: &Transforms,
) -> Result<BTreeSet<String>, SinkError> {
    Ok(admin.unfit(&learned(transforms)).await?.into_keys().collect())
}

/// The results on whose columns events have a say.
fn learned(transforms: &Transforms) -> Vec<Arc<ResultTable>> {
    let results = transforms.results().filter(|result| transforms.may_wait(&result.name));
    results.cloned().collect()
}

/// Results go to an API only if there is one.
pub(in crate::pipeline) fn check_results(
    config: &Config,
    results: &[Arc<ResultTable>],
) -> Result<(), SinkError> {
    if config.sink.rest.is_some() {
        return Ok(());
    }
    let is_rest = |result: &&Arc<ResultTable>| result.channel != Channel::Table;
    let problem = |result: &Arc<ResultTable>| {
        format!(
            "{}: writes to rest {}, and there is no API: set sink.rest.base_url",
            result.name, result.target
        )
    };
    let problems: Vec<String> = results.iter().filter(is_rest).map(problem).collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(SinkError::Config { problems }),
    }
}

/// Watches the targets of results that wait for them.
pub(in crate::pipeline) struct TargetWatcher {
    fits: mpsc::Receiver<()>,
    /// `None` if none waits.
    task: Option<JoinHandle<()>>,
}

impl TargetWatcher {
    /// # Errors
    /// If the sink's configuration is wrong.
    pub(in crate::pipeline) fn watch(
        config: &Config,
        mut waiting: Vec<WaitsForTarget>,
    ) -> Result<Self, SinkError> {
        let (sender, fits) = mpsc::channel(1);
        // A path of an API has none before the configuration is another one.
        waiting.retain(|waits| waits.result.channel == Channel::Table);
        if waiting.is_empty() {
            return Ok(Self { fits, task: None });
        }
        // A connection for each look, because nothing may come of it for weeks.
        let (target, pipeline) = (config.sink.postgres.clone(), config.pipeline.clone());
        let connect = move || SchemaAdmin::new(target.clone(), pipeline.as_str());
        let creates = config.sink.postgres.create_tables;
        connect()?;
        let task = tokio::spawn(async move {
            wait(connect, &waiting, creates).await;
            // A session that has ended does not listen.
            let _is_heard = sender.send(()).await.is_ok();
        });
        Ok(Self { fits, task: Some(task) })
    }

    /// A target fits again, so that its result may run; never if none waits. Cancel-safe.
    pub(in crate::pipeline) async fn fits(&mut self) {
        if self.fits.recv().await.is_none() {
            // Nobody watches.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for TargetWatcher {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn wait(
    connect: impl Fn() -> Result<SchemaAdmin, SinkError>,
    waiting: &[WaitsForTarget],
    creates: bool,
) {
    let results: Vec<Arc<ResultTable>> =
        waiting.iter().map(|waits| Arc::clone(&waits.result)).collect();
    loop {
        tokio::time::sleep(INTERVAL).await;
        // While the target is away, others say so.
        let Ok(mut admin) = connect() else { continue };
        let Ok(unfit) = admin.unfit(&results).await else { continue };
        let mended = waiting.iter().find(|waits| match unfit.get(&waits.result.name) {
            None => true,
            // Somebody has dropped it, so that it is created anew.
            Some(Unfit { is_missing, .. }) => *is_missing && waits.has_table && creates,
        });
        if let Some(WaitsForTarget { result, .. }) = mended {
            let (result, target) = (&result.name, &result.target);
            info!(
                result,
                target, "the target of a result that waits has been altered: it is tried again"
            );
            return;
        }
    }
}

#[cfg(test)]
impl TargetWatcher {
    /// For sessions without a database.
    pub(in crate::pipeline) fn never() -> Self {
        let (_, fits) = mpsc::channel(1);
        Self { fits, task: None }
    }
}
