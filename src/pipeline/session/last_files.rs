//! The SQL files that ran last: a start whose files are refused goes on with them, as an edit that is refused leaves what
//! runs alone.

use std::path::Path;
use std::time::Duration;

use tracing::{error, warn};

use crate::config::Config;
use crate::pipeline::error::PipelineError;
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::session::inputs::StartInputs;
use crate::pipeline::sql_folder::{PlannedSql, Sql, SqlFiles, SqlPlan};
use crate::resilience::{Backoff, Recovery, chain};
use crate::sink::SinkError;
use crate::sink::postgres::SchemaAdmin;
use crate::telemetry::Condition;

/// Notes the files that a session runs, if they are others than those that are noted.
pub(super) async fn note(access: &PostgresAccess, files: &SqlFiles, noted: &mut Option<SqlFiles>) {
    if noted.as_ref() == Some(files) {
        return;
    }
    let written = match access.schema_admin() {
        Ok(mut admin) => admin.note_sql_files(&files.texts()).await,
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => *noted = Some(files.clone()),
        Err(error) => {
            warn!(
                error = chain(&error),
                "the SQL files that run can't be kept for a start whose files are refused"
            );
        }
    }
}

/// Refuses files of which one waits for a column or a table although its version before ran without: as at an edit,
/// that is a mistake, and not a file that waits from its first day on.
///
/// # Errors
/// What these files wait for.
pub(super) async fn refuse_pending(
    admin: &mut SchemaAdmin,
    sql: &Sql,
    plan: &SqlPlan,
) -> Result<(), PipelineError> {
    if plan.transforms.pending().is_empty() {
        return Ok(());
    }
    let before = match admin.sql_files().await {
        Ok(texts) => SqlFiles::of_texts(Path::new(""), &texts),
        Err(error) if error.recovery() == Recovery::Retry => return Err(error.into()),
        // Nobody knows of one that ran.
        Err(_) => return Ok(()),
    };
    let stopped = plan.pending_that_ran(sql, &before).await;
    if stopped.is_empty() { Ok(()) } else { Err(PipelineError::Sql(stopped)) }
}

/// The files that ran last, instead of `refused` ones.
///
/// # Errors
/// `problem` itself, if none are known, or these are the same, or refused as well.
pub(crate) async fn instead_of(
    inputs: StartInputs<'_>,
    refused: Option<&SqlFiles>,
    problem: PipelineError,
) -> Result<PlannedSql, PipelineError> {
    if !is_of_files(&problem) {
        return Err(problem);
    }
    let Config { sql: section, xml, decode, .. } = inputs.config;
    let Some(texts) = read(inputs).await else { return Err(problem) };
    let files = SqlFiles::of_texts(&section.folder, &texts);
    if texts.is_empty() || refused == Some(&files) {
        return Err(problem);
    }
    let policy = decode.unknown_tables;
    let planned = PlannedSql::of_files(files, &section.folder, xml, policy).await;
    let Ok(planned) = planned else { return Err(problem) };
    error!(
        problem = chain(&problem),
        "the SQL files are refused, and those that ran before go on: correct them, or their target"
    );
    Ok(planned)
}

/// Whether other files could do without it.
fn is_of_files(problem: &PipelineError) -> bool {
    matches!(
        problem,
        PipelineError::Sql(_)
            | PipelineError::Sink(
                SinkError::Targets { .. }
                    | SinkError::Config { .. }
                    | SinkError::Migration { .. }
                    | SinkError::MigrationChanged { .. }
            )
    )
}

/// Waits for the target; `None` if it can't be read for another reason, or at shutdown.
async fn read(inputs: StartInputs<'_>) -> Option<Vec<(String, String)>> {
    let StartInputs { access, health, shutdown, .. } = inputs;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let mut admin = access.schema_admin().ok()?;
        let error = tokio::select! {
            () = shutdown.cancelled() => return None,
            read = admin.sql_files() => match read {
                Ok(texts) => return Some(texts),
                Err(error) if error.recovery() == Recovery::Retry => error,
                Err(_) => return None,
            },
        };
        health.block(Condition::Target, chain(&error));
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}
