//! Landed changes leave that are old and superseded, where a table says how long its history is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::counter;
use tokio::time::{MissedTickBehavior, sleep};
use tracing::{info, warn};

use crate::model::{Landing, Table};
use crate::pipeline::error::PipelineError;
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::tasks::background::BackgroundTask;
use crate::resilience::chain;
use crate::sink::SinkError;
use crate::sink::postgres::LandingPruner;
use crate::telemetry::names;

/// How often it is looked for old changes.
const INTERVAL: Duration = Duration::from_secs(60);
/// Between two transactions: commits have the target to themselves.
const PAUSE: Duration = Duration::from_millis(200);

/// `None` if all changes of these tables stay. What fails is told and tried again: nothing waits for it.
///
/// # Errors
/// If the configuration is wrong; no connection is made.
pub(crate) fn spawn(
    access: &PostgresAccess,
    tables: &[Arc<Table>],
) -> Result<Option<BackgroundTask>, PipelineError> {
    let is_bounded = |table: &&Arc<Table>| {
        table.options.history.is_some() || matches!(table.options.landing, Landing::Current(_))
    };
    let tables: Vec<Arc<Table>> = tables.iter().filter(is_bounded).cloned().collect();
    if tables.is_empty() {
        return Ok(None);
    }
    let pruner = access.landing_pruner()?;
    Ok(Some(BackgroundTask::spawn("old changes", |stop| async move {
        stop.run_until_cancelled(Box::pin(run(pruner, tables))).await;
    })))
}

async fn run(mut pruner: LandingPruner, tables: Vec<Arc<Table>>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for table in &tables {
            if let Err(error) = prune(&mut pruner, table).await {
                let name = &table.name;
                warn!(table = name, error = chain(&error), "old changes stay; later again");
                counter!(names::PRUNING_ERRORS, "table" => name.clone()).increment(1);
            }
        }
    }
}

async fn prune(pruner: &mut LandingPruner, table: &Arc<Table>) -> Result<(), SinkError> {
    let mut rows = 0;
    let done = loop {
        match pruner.prune_some(table, SystemTime::now()).await {
            Ok(pruned) => {
                counter!(names::PRUNED_ROWS, "table" => table.name.clone()).increment(pruned.rows);
                rows += pruned.rows;
                if pruned.is_done {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
        sleep(PAUSE).await;
    };
    if rows > 0 {
        info!(table = table.name, rows, "old changes have left the landing table");
    }
    done
}
