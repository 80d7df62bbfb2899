//! From nothing to a processor that goes on where the ledger says: SQL, target, state, results.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::warn;

use crate::decode::{Decoder, DecoderSetup};
use crate::model::{ResultTable, Table};
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::epoch::processor::{Processor, ProcessorParts};
use crate::pipeline::error::{PipelineError, Stopped};
use crate::pipeline::history::accept;
use crate::pipeline::schema::discovered_tables::DiscoveredTables;
use crate::pipeline::schema::target_compatibility::{
    WaitsForTarget, check_results, set_unfit_aside,
};
use crate::pipeline::schema::{column_promotion, pending_transforms};
use crate::pipeline::session::carry_over::CarryOver;
use crate::pipeline::session::inputs::SessionInputs;
use crate::pipeline::session::last_files;
use crate::pipeline::session::resume::resume;
use crate::pipeline::sql_folder::SqlPlan;
use crate::resilience::{Backoff, Recovery, chain};
use crate::sink::Sink;
use crate::sink::postgres::PostgresSink;
use crate::state::{DiskError, StateConfig, StateError, StateFolder, StateStores};
use crate::telemetry::{Condition, Health};

/// The most refused rows of results that one start puts right.
const MENDED_ROWS: i64 = 5000;

/// A processor that is up to date with the ledger, and the sink for its epochs.
pub(crate) struct Started {
    pub(crate) processor: Processor,
    pub(crate) sink: PostgresSink,
    pub(crate) state_folder: Arc<StateFolder>,
    /// A landing table lacks a column that it should have.
    pub(crate) has_failed_to_alter: bool,
    pub(crate) waits_for_target: Vec<WaitsForTarget>,
}

/// Waits for the target as long as it takes, and for a processor that still has the folder of the state.
///
/// # Errors
/// What waiting does not heal. Before the first start of the process this includes what somebody has to
/// repair, such as a wrong password: who has just typed it is there to read it.
pub(super) async fn start(
    inputs: SessionInputs<'_>,
    queue: &str,
    carry_over: &mut CarryOver,
) -> Result<Started, Stopped> {
    let SessionInputs { health, shutdown, .. } = inputs;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let has_started = carry_over.has_started;
    let condition = |error: &PipelineError| match error {
        PipelineError::State(StateError::Disk(DiskError::Locked(_))) => Some(Condition::State),
        PipelineError::Sink(error) => match error.recovery() {
            Recovery::Retry => Some(Condition::Target),
            Recovery::Hold => has_started.then_some(Condition::Target),
            Recovery::DeadLetter | Recovery::Stop => None,
        },
        _ => None,
    };
    loop {
        let error = tokio::select! {
            () = shutdown.cancelled() => return Err(Stopped::Shutdown),
            started = Box::pin(attempt(inputs, queue, carry_over)) => match started {
                Ok(started) => return Ok(started),
                Err(error) => error,
            },
        };
        let Some(condition) = condition(&error) else { return Err(Stopped::Failed(error)) };
        let wait = backoff.next_wait();
        health.block(condition, chain(&error));
        warn!(
            error = chain(&error),
            wait_ms = wait.as_millis() as u64,
            "what a start needs is not ready, trying again"
        );
        tokio::select! {
            () = shutdown.cancelled() => return Err(Stopped::Shutdown),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn attempt(
    inputs: SessionInputs<'_>,
    queue: &str,
    carry_over: &mut CarryOver,
) -> Result<Started, PipelineError> {
    let SessionInputs { config, access, sql, health, .. } = inputs;
    let mut sink = access.sink(queue)?;
    let mut admin = sink.schema_admin();
    // DDL is run at a start of the process, and not because a file has come while it runs.
    let files = if carry_over.has_started { &[] } else { sql.ods.as_slice() };
    admin.apply_ods(files).await?;
    let registry = admin.schema_changes().await?;
    admin.create_landing(&sql.tables).await?;
    let discovered = DiscoveredTables::landing(sql, &registry, &mut admin).await?;
    discovered.tell();
    let altered = admin.alter(&discovered.and_declared(sql), &registry).await?;
    column_promotion::tell(&altered);
    let plan = SqlPlan::renewed(carry_over.plan.take(), sql, &altered.tables, &registry).await?;
    if !carry_over.has_started {
        last_files::refuse_pending(&mut admin, sql, &plan).await?;
    }
    carry_over.sql_watcher.note_running(&plan.transforms);
    let rest = config.sink.rest.as_ref();
    let mut transforms = plan.transforms;
    carry_over.failed_results.set_aside(&mut transforms);
    let fitted = set_unfit_aside(transforms, &mut admin, rest).await?;
    let (transforms, waits_for_target) = (fitted.transforms, fitted.waiting);
    pending_transforms::tell(&transforms, health);
    let tables = transforms.tables().to_vec();
    let results: Vec<Arc<ResultTable>> = transforms.results().cloned().collect();
    check_results(rest, &results)?;
    admin.create_missing(&results).await?;
    drop(admin);
    sink.check_targets(&tables, &results).await?;
    let mut ledger = access.ledger_reader()?;
    if let Some(lost) = carry_over.history.confirm(&mut ledger, &tables, health).await? {
        accept(&mut sink, queue, lost).await?;
    }
    drop(ledger);
    let landing_reader = landing_reader(inputs, queue, &tables, carry_over).await?;
    health.clear(Condition::Target);

    health.block(Condition::State, "loading the current rows");
    let (stores, state_folder) = stores(inputs, &tables, carry_over)?;
    let decoder = Decoder::new(DecoderSetup {
        config: config.decode.clone(),
        limits: config.limits.clone(),
        tables,
        extractions: sql.extractions.clone(),
        registered: discovered.known(sql, &results),
    });
    let (pipeline, queue) = (config.pipeline.clone(), queue.to_owned());
    let result_letters = carry_over.result_letters.clone();
    let parts = ProcessorParts {
        pipeline,
        queue,
        decoder,
        stores,
        transforms,
        landing_reader,
        result_letters,
    };
    let processor = loaded(inputs, &mut sink, parts, carry_over).await?;
    let has_failed_to_alter = !altered.failed.is_empty();
    Ok(Started { processor, sink, state_folder, has_failed_to_alter, waits_for_target })
}

/// The processor with its state.
async fn loaded(
    SessionInputs { config, access, sql, health, .. }: SessionInputs<'_>,
    sink: &mut PostgresSink,
    parts: ProcessorParts,
    carry_over: &mut CarryOver,
) -> Result<Processor, PipelineError> {
    let refused = access.letters().result_requests(MENDED_ROWS).await?;
    // Boxed, because every caller's future would hold it.
    let mut processor = Box::pin(resume(sink, parts, refused))
        .await?
        .with_letters(&config.dead_letters)
        .with_max_refused(config.sink.postgres.max_refused_percent);
    carry_over.start_time = None;
    last_files::note(access, &sql.files, &mut carry_over.noted_files).await;
    tell_loaded(&mut processor, health);
    Ok(processor)
}

fn tell_loaded(processor: &mut Processor, health: &Health) {
    if !processor.take_failed().is_empty() {
        pending_transforms::tell(processor.transforms(), health);
    }
    health.clear(Condition::State);
}

/// Over a connection of its own: an epoch is looked into while the one before is committed.
async fn landing_reader(
    inputs: SessionInputs<'_>,
    queue: &str,
    tables: &[Arc<Table>],
    carry_over: &CarryOver,
) -> Result<LandingReader, PipelineError> {
    let SessionInputs { access, health, shutdown, .. } = inputs;
    let mut landing = access.sink(queue)?;
    landing.check_targets(tables, &[]).await?;
    landing.raise_preflight(&carry_over.poison_search.preflight_levels());
    let retry = access.retry(health, "read");
    Ok(LandingReader::new(Box::new(landing), retry, shutdown.clone()))
}

/// The engine keeps blocks in a part of the memory that the state may take.
const CACHE_SHARE: u64 = 8;
const LEAST_CACHE: u64 = 8 << 20;
const MOST_CACHE: u64 = 256 << 20;

/// Opened when the queue is ours: whoever stands by behind another processor of this machine leaves its folder alone.
fn state_folder(
    config: &StateConfig,
    carry_over: &mut CarryOver,
) -> Result<Arc<StateFolder>, PipelineError> {
    if let Some(folder) = &carry_over.state_folder {
        return Ok(Arc::clone(folder));
    }
    let cache = config.memory.map_or(LEAST_CACHE, |memory| memory.0 / CACHE_SHARE);
    let cache = cache.clamp(LEAST_CACHE, MOST_CACHE);
    let opened = match &config.path {
        Some(path) => StateFolder::open(path, cache),
        None => StateFolder::temporary(cache),
    };
    let folder = opened.map_err(StateError::from)?;
    carry_over.state_folder = Some(Arc::clone(&folder));
    Ok(folder)
}

/// Stores without rows, with the limits of the configuration, and the folder that they use.
fn stores(
    SessionInputs { config, .. }: SessionInputs<'_>,
    tables: &[Arc<Table>],
    carry_over: &mut CarryOver,
) -> Result<(StateStores, Arc<StateFolder>), PipelineError> {
    let folder = state_folder(&config.state, carry_over)?;
    let mut stores = StateStores::new(tables, config.sql.watermark_delay)?;
    stores.set_idle_after(config.sql.idle_after);
    stores.go_by(wall_clock);
    if let Some(time) = carry_over.start_time {
        stores.start_at(time);
    }
    if let Some(limit) = config.state.memory {
        stores.set_memory_limit(limit);
    }
    stores.use_folder(&folder);
    Ok((stores, folder))
}

/// Microseconds since 1970.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
