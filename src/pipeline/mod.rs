//! The loop: collect → drop what is known → decode → divert what is late → fold → SQL → commit → ack → checkpoint.
//!
//! This is the only module that knows all parts. `session` runs from the ledger to a reason to start over,
//! `epoch` turns messages into what is committed, `tasks` run beside the loop, `schema` follows tables, columns
//! and targets that change meanwhile, `target_retry` waits for a target that is away. `dry_run` runs a
//! processor without queue and target.

mod decode_flood;
mod dry_run;
mod epoch;
mod error;
mod history;
mod postgres_access;
mod schema;
mod session;
mod sql_folder;
mod target_retry;
mod tasks;

pub use decode_flood::DecodeFlood;
pub use dry_run::DryRun;
pub use error::{CommitError, PipelineError};
pub use history::LostHistory;
pub use sql_folder::{Sql, SqlFiles, SqlFolders, load_sql, load_sql_with};

use std::num::NonZeroUsize;

use bytesize::ByteSize;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::Config;
use crate::model::Epoch;
use crate::source::SourceConfig;
use crate::source::file::FileSource;
use crate::source::solace::{SolaceConfig, SolaceSource};
use crate::telemetry::Health;
use history::KnownHistory;
use postgres_access::PostgresAccess;
use session::carry_over::CarryOver;
use session::end::SessionEnd;
use session::inputs::{SessionInputs, StartInputs};
use session::last_files;
use session::running::run_session;
use sql_folder::PlannedSql;
use tasks::replay_watcher::ReplayWatcher;
use tasks::sql_watcher::{self, SqlWatcher, Texts};

/// Runs until shutdown or until a file source has ended. `accepts` is the newest of the epochs whose loss is accepted, if the
/// database has lost some.
///
/// # Errors
/// What only an operator can heal; nothing is lost, and a restart goes on from the ledger.
pub async fn run(
    config: &Config,
    accepts: Option<Epoch>,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), PipelineError> {
    let access = PostgresAccess::new(config);
    let start = StartInputs { config, access: &access, health: &health, shutdown: &shutdown };
    let (PlannedSql { mut sql, plan }, texts) = Box::pin(first_sql(start)).await?;
    let sql_watcher = SqlWatcher::watch(config, &access, &health, texts);
    let replay_watcher = ReplayWatcher::watch(&access);
    let history = KnownHistory::new(&config.pipeline, &config.checkpoint, accepts);
    let mut carry_over = CarryOver::new(plan, sql_watcher, replay_watcher, history);
    carry_over.start_time = config.sql.start_time;
    if let Some(plan) = &carry_over.plan {
        carry_over.sql_watcher.note_running(&plan.transforms);
    }
    loop {
        let inputs = SessionInputs {
            config,
            access: &access,
            sql: &sql,
            health: &health,
            shutdown: &shutdown,
        };
        let end = one_session(inputs, &mut carry_over).await?;
        if let (SessionEnd::Failed(error), Some(folder)) = (&end, &carry_over.state_folder)
            && error.is_of_the_disk()
        {
            folder.note_damaged();
        }
        match end {
            // A committer without an error of its own has stopped at shutdown.
            SessionEnd::Shutdown | SessionEnd::CommitterStopped | SessionEnd::Drained => {
                return Ok(());
            }
            SessionEnd::StateBroken
            | SessionEnd::RowsRefused
            | SessionEnd::RowsAwaited
            | SessionEnd::Learned => {}
            SessionEnd::Forgotten => {
                warn!("the database has lost epochs: starting over to find out which");
                carry_over.history.doubt();
            }
            SessionEnd::ResultFailed(error) => carry_over.failed_results.add(&error),
            SessionEnd::Edited(edited) => {
                PlannedSql { sql, plan: carry_over.plan } = *edited;
                carry_over.failed_results.clear();
            }
            SessionEnd::Overtaken => warn!(
                "another processor has committed since the start: starting over from its ledger"
            ),
            SessionEnd::Failed(error) if carry_over.has_started => return Err(error),
            SessionEnd::Failed(error) => {
                let instead = last_files::instead_of(start, Some(&sql.files), error);
                PlannedSql { sql, plan: carry_over.plan } = Box::pin(instead).await?;
                carry_over.sql_watcher = SqlWatcher::watch(config, &access, &health, None);
            }
        }
    }
}

/// What runs first, and the text of the folder that it is of.
async fn first_sql(start: StartInputs<'_>) -> Result<(PlannedSql, Texts), PipelineError> {
    let Config { sql: section, xml, decode, .. } = start.config;
    let folders = SqlFolders::from(section);
    let texts = sql_watcher::texts(&folders).await;
    match PlannedSql::load(&folders, xml, decode.unknown_tables).await {
        Ok(loaded) => Ok((loaded, texts)),
        // Without texts that run, the watcher looks at the folder at once, and says what is wrong.
        Err(errors) => {
            Ok((last_files::instead_of(start, None, PipelineError::Sql(errors)).await?, None))
        }
    }
}

async fn one_session(
    inputs: SessionInputs<'_>,
    carry_over: &mut CarryOver,
) -> Result<SessionEnd, PipelineError> {
    Ok(match &inputs.config.source {
        SourceConfig::Solace(solace) => {
            let source = SolaceSource::start(buffering(solace, inputs.config.batch.max_bytes));
            run_session(inputs, &solace.queue, source, carry_over).await
        }
        SourceConfig::File(file) => {
            let queue = file.path.display().to_string();
            run_session(inputs, &queue, FileSource::open(file)?, carry_over).await
        }
    })
}

/// So much waits that the next batch is there when one is taken, however large its messages are.
fn buffering(solace: &SolaceConfig, batch: NonZeroUsize) -> SolaceConfig {
    let batch = ByteSize(batch.get() as u64);
    SolaceConfig { max_buffered: solace.max_buffered.or(Some(batch)), ..solace.clone() }
}

#[cfg(test)]
mod tests;
