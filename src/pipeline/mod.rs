//! The loop: collect → drop what is known → decode → divert what is late → read back what is needed → fold
//! → SQL → commit → ack → checkpoint.
//!
//! This is the only module that knows all parts. `session` runs from the ledger to a reason to start over,
//! `epoch` turns messages into what is committed, `tasks` run beside the loop, `schema` follows tables, columns
//! and targets that change meanwhile, `target_retry` waits for a target that is away. `dry_run` runs a
//! processor without queue and target.

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

pub use dry_run::DryRun;
pub use error::{CommitError, PipelineError};
pub use history::LostHistory;
pub use sql_folder::{Sql, SqlFolders, load_sql, load_sql_with};

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
use epoch::poison_search::PoisonSearch;
use history::KnownHistory;
use postgres_access::PostgresAccess;
use schema::column_promotion::PromotionRetry;
use session::carry_over::CarryOver;
use session::end::SessionEnd;
use session::inputs::SessionInputs;
use session::running::run_session;
use sql_folder::PlannedSql;
use tasks::replay_watcher::ReplayWatcher;
use tasks::sql_watcher::{self, SqlWatcher};

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
    let folders = SqlFolders::from(&config.sql);
    let texts = sql_watcher::texts(&folders).await;
    let policy = config.decode.unknown_tables;
    let loaded = PlannedSql::load(&folders, &config.xml, policy).await;
    let PlannedSql { mut sql, plan } = loaded.map_err(PipelineError::Sql)?;
    let access = PostgresAccess::new(config);
    let mut carry_over = CarryOver {
        plan,
        sql_watcher: SqlWatcher::watch(config, &access, texts),
        replay_watcher: ReplayWatcher::watch(&access),
        poison_search: PoisonSearch::default(),
        promotion_retry: PromotionRetry::default(),
        history: KnownHistory::new(&config.pipeline, &config.checkpoint, accepts),
        has_started: false,
    };
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
        let end = match &config.source {
            SourceConfig::Solace(solace) => {
                let source = SolaceSource::start(buffering(solace, config.batch.max_bytes));
                run_session(inputs, &solace.queue, source, &mut carry_over).await
            }
            SourceConfig::File(file) => {
                let queue = file.path.display().to_string();
                run_session(inputs, &queue, FileSource::open(file)?, &mut carry_over).await
            }
        };
        match end {
            // A committer without an error of its own has stopped at shutdown.
            SessionEnd::Shutdown | SessionEnd::CommitterStopped | SessionEnd::Drained => {
                return Ok(());
            }
            SessionEnd::QueryFailed
            | SessionEnd::RowsRefused
            | SessionEnd::RowsAwaited
            | SessionEnd::Learned => {}
            SessionEnd::Forgotten => {
                warn!("the database has lost epochs: starting over to find out which");
                carry_over.history.doubt();
            }
            SessionEnd::Edited(edited) => PlannedSql { sql, plan: carry_over.plan } = *edited,
            SessionEnd::Overtaken => warn!(
                "another processor has committed since the start: starting over from its ledger"
            ),
            SessionEnd::Failed(error) => return Err(error),
        }
    }
}

/// So much waits that the next batch is there when one is taken, however large its messages are.
fn buffering(solace: &SolaceConfig, batch: NonZeroUsize) -> SolaceConfig {
    let batch = ByteSize(batch.get() as u64);
    SolaceConfig { max_buffered: solace.max_buffered.or(Some(batch)), ..solace.clone() }
}

#[cfg(test)]
mod tests;
