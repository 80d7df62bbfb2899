//! From nothing to a processor that goes on where the ledger says: SQL, target, state, results.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::Config;
use crate::decode::{Decoder, DecoderSetup};
use crate::model::ResultTable;
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::epoch::processor::Processor;
use crate::pipeline::error::PipelineError;
use crate::pipeline::schema::discovered_tables::DiscoveredTables;
use crate::pipeline::schema::target_compatibility::WaitsForTarget;
use crate::pipeline::schema::target_compatibility::check_results;
use crate::pipeline::schema::{column_promotion, pending_transforms, target_compatibility};
use crate::pipeline::session::carry_over::CarryOver;
use crate::pipeline::session::resume::resume;
use crate::pipeline::sql_folder::Sql;
use crate::resilience::{Backoff, Recovery, chain};
use crate::sink::SinkError;
use crate::sink::postgres::{LetterStore, PostgresSink};
use crate::state::StateStores;
use crate::telemetry::{Condition, Health};

/// The most refused rows of results that one start puts right.
const MENDED_ROWS: i64 = 5000;

/// A processor that is up to date with the ledger, and the sink for its epochs.
pub(in crate::pipeline) struct Started {
    pub(in crate::pipeline) processor: Processor,
    pub(in crate::pipeline) sink: PostgresSink,
    /// A landing table lacks a column that it should have.
    pub(in crate::pipeline) has_failed_to_alter: bool,
    pub(in crate::pipeline) waits_for_target: Vec<WaitsForTarget>,
}

/// Waits for the target as long as it takes; `None`: shutdown came first.
///
/// # Errors
/// What waiting does not heal. Before the first start of the process this includes what somebody has to
/// repair, such as a wrong password: who has just typed it is there to read it.
pub(in crate::pipeline) async fn start(
    config: &Config,
    (sql, carry_over): (&Sql, &CarryOver),
    queue: &str,
    (health, shutdown): (&Health, &CancellationToken),
) -> Result<Option<Started>, PipelineError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let is_waited_for = |error: &SinkError| match error.recovery() {
        Recovery::Retry => true,
        Recovery::Hold => carry_over.has_started,
        Recovery::DeadLetter | Recovery::Stop => false,
    };
    loop {
        let error = tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            started = Box::pin(attempt(config, (sql, carry_over), queue, (health, shutdown))) => match started {
                Ok(started) => return Ok(Some(started)),
                Err(PipelineError::Sink(error)) if is_waited_for(&error) => error,
                Err(error) => return Err(error),
            },
        };
        let wait = backoff.next_wait();
        health.block(Condition::Target, chain(&error));
        warn!(
            error = chain(&error),
            wait_ms = wait.as_millis() as u64,
            "the target is not ready, trying again"
        );
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn attempt(
    config: &Config,
    (sql, carry_over): (&Sql, &CarryOver),
    queue: &str,
    (health, shutdown): (&Health, &CancellationToken),
) -> Result<Started, PipelineError> {
    let new_sink =
        || PostgresSink::new(config.sink.postgres.clone(), config.pipeline.as_str(), queue);
    let mut sink = new_sink()?;
    let mut admin = sink.schema_admin();
    admin.apply_ods(&sql.ods).await?;
    let registry = admin.schema_changes().await?;
    let discovered = DiscoveredTables::landing(sql, &registry, &mut admin).await?;
    discovered.tell();
    let altered = admin.alter(&discovered.and_declared(sql), &registry).await?;
    column_promotion::tell(&altered);
    let fitted =
        target_compatibility::plan(config, &mut admin, (&altered.tables, &registry), sql).await?;
    let (transforms, waits_for_target) = (fitted.transforms, fitted.waiting);
    pending_transforms::tell(&transforms, health);
    let tables = transforms.tables().to_vec();
    let results: Vec<Arc<ResultTable>> = transforms.results().cloned().collect();
    check_results(config, &results)?;
    admin.create_missing(&results).await?;
    admin.create_extracted(&sql.tables).await?;
    drop(admin);
    sink.check_targets(&tables, &results).await?;
    // A connection of its own: an epoch is looked into while the one before is committed.
    let mut landing = new_sink()?;
    landing.check_targets(&tables, &[]).await?;
    landing.raise_preflight(carry_over.poison_search.preflight_levels());
    let retry = (health.clone(), config.sink.postgres.breaker());
    let landed = LandingReader::new(Box::new(landing), retry, shutdown.clone());
    health.clear(Condition::Target);

    health.block(Condition::State, "loading the current rows from the landing tables");
    let mut stores = StateStores::new(&tables, config.sql.watermark_delay)?;
    stores.set_idle_after(config.sql.idle_after);
    if let Some(limit) = config.sql.memory_limit {
        stores.set_memory_limit(limit);
    }
    let decoder = Decoder::new(DecoderSetup {
        config: config.decode.clone(),
        limits: config.limits.clone(),
        tables,
        extractions: sql.extractions.clone(),
        registered: discovered.known(sql, &results),
    });
    let mut letters = LetterStore::new(config.sink.postgres.clone(), config.pipeline.as_str());
    let asked = letters.result_requests(MENDED_ROWS).await?;
    let state = (stores, transforms);
    let processor = resume(&mut sink, decoder, state, landed, (queue, asked)).await?;
    let processor = processor.with_letters(&config.dead_letters);
    health.clear(Condition::State);
    let has_failed_to_alter = !altered.failed.is_empty();
    Ok(Started { processor, sink, has_failed_to_alter, waits_for_target })
}
