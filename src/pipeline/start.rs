//! From nothing to a processor that goes on where the ledger says: SQL, target, state, results.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::delivering::check_results;
use super::epoch::Processor;
use super::fitting::WaitsForTarget;
use super::late::LandedRows;
use super::registered::Registered;
use super::{Lasting, PipelineError, altering, fitting, mending, waiting};
use crate::config::Config;
use crate::decode::{Decoder, UnknownTables};
use crate::model::{
    Enrichment, Epoch, EpochCommit, LedgerPosition, Mending, OffsetSet, RefusedResultRow, Replayed,
    ResultChanges, ResultTable, Table,
};
use crate::resilience::{Backoff, Failpoint, Recovery, chain, failpoint};
use crate::sink::postgres::{LetterStore, PostgresSink};
use crate::sink::{Sink, SinkError};
use crate::state::{StateError, StateStores, Ticks};
use crate::telemetry::{Condition, Health};
use crate::transform::{SqlError, SqlFile, Transforms, parse_tables, parse_type, read_folder};
use crate::xml::{Extraction, XmlConfig, resolve};

/// What problems of `[[xml]]` sections are told to be in.
const CONFIG: &str = "tidemark.toml";

/// The most refused rows of results that one start puts right.
const MENDED_ROWS: i64 = 5000;
/// The histories of what so many rows look up are in memory at once at a start.
const LOOKED_UP_ROWS: usize = 8192;

/// The SQL folder, read and checked.
#[derive(Debug, Clone)]
pub struct Sql {
    pub tables: Vec<Arc<Table>>,
    pub transforms: Vec<SqlFile>,
    /// Name and text of each file of `ods/`.
    pub ods: Vec<(String, String)>,
    /// Whose tables are among `tables`.
    pub extractions: Vec<Arc<Extraction>>,
    /// Files may wait for tables that no file declares, if these are registered.
    pub unknown_tables: UnknownTables,
}

/// Reads the SQL folder and plans everything in it; needs no connection. Files may wait for columns that
/// only events can show.
///
/// # Errors
/// All problems of all files.
pub async fn load_sql(folder: &Path) -> Result<Sql, Vec<SqlError>> {
    load_sql_with(folder, &[], UnknownTables::default()).await
}

/// As [`load_sql`], with tables that are extracted from columns with XML, and with what becomes of tables that
/// are not declared.
///
/// # Errors
/// As there.
pub async fn load_sql_with(
    folder: &Path,
    xml: &[XmlConfig],
    unknown_tables: UnknownTables,
) -> Result<Sql, Vec<SqlError>> {
    let read = |name: &str| read_folder(&folder.join(name)).map_err(|error| vec![error]);
    let mut tables = parse_tables(&read("tables")?)?;
    if tables.is_empty() {
        let path = folder.join("tables");
        let message =
            "declares no table: one CREATE TABLE file per source table goes here".to_owned();
        return Err(vec![SqlError { path, at: None, message }]);
    }
    let extractions = resolve(xml, &tables, parse_type).map_err(|problems| {
        let error = |message| SqlError { path: CONFIG.into(), at: None, message };
        problems.into_iter().map(error).collect::<Vec<_>>()
    })?;
    tables.extend(extractions.iter().map(|extraction| Arc::clone(&extraction.table)));
    let transforms = read("transforms")?;
    let ods = read("ods")?.into_iter().map(|file| (file.name, file.text)).collect();
    let sql = Sql { tables, transforms, ods, extractions, unknown_tables };
    Transforms::plan_with(&sql.tables, &[], &sql.transforms, sql.new_tables()).await?;
    Ok(sql)
}

/// A processor that is up to date with the ledger, and the sink for its epochs.
pub(super) struct Started {
    pub(super) processor: Processor,
    pub(super) sink: PostgresSink,
    /// A landing table lacks a column that it should have.
    pub(super) has_failed_to_alter: bool,
    pub(super) waits_for_target: Vec<WaitsForTarget>,
}

/// Waits for the target as long as it takes; `None`: shutdown came first.
///
/// # Errors
/// What waiting does not heal. Before the first start of the process this includes what somebody has to
/// repair, such as a wrong password: who has just typed it is there to read it.
pub(super) async fn start(
    config: &Config,
    (sql, lasting): (&Sql, &Lasting),
    queue: &str,
    (health, shutdown): (&Health, &CancellationToken),
) -> Result<Option<Started>, PipelineError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let is_waited_for = |error: &SinkError| match error.recovery() {
        Recovery::Retry => true,
        Recovery::Hold => lasting.has_started,
        Recovery::DeadLetter | Recovery::Stop => false,
    };
    loop {
        let error = tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            started = Box::pin(attempt(config, (sql, lasting), queue, (health, shutdown))) => match started {
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
    (sql, lasting): (&Sql, &Lasting),
    queue: &str,
    (health, shutdown): (&Health, &CancellationToken),
) -> Result<Started, PipelineError> {
    let new_sink =
        || PostgresSink::new(config.sink.postgres.clone(), config.pipeline.as_str(), queue);
    let mut sink = new_sink()?;
    sink.apply_ods(&sql.ods).await?;
    let registry = sink.schema_changes().await?;
    let registered = Registered::landing(sql, &registry, &mut sink).await?;
    registered.tell();
    let altered = sink.alter(&registered.and_declared(sql), &registry).await?;
    altering::tell(&altered);
    let fitted = fitting::plan(config, &mut sink, (&altered.tables, &registry), sql).await?;
    let (transforms, waits_for_target) = (fitted.transforms, fitted.waiting);
    waiting::tell(&transforms, health);
    let tables = transforms.tables().to_vec();
    let results: Vec<Arc<ResultTable>> = transforms.results().cloned().collect();
    check_results(config, &results)?;
    sink.create_missing(&results).await?;
    sink.create_extracted(&sql.tables).await?;
    sink.check_targets(&tables, &results).await?;
    // A connection of its own: an epoch is looked into while the one before is committed.
    let mut landing = new_sink()?;
    landing.check_targets(&tables, &[]).await?;
    landing.distrust(lasting.narrowing.distrusted());
    let patience = (health.clone(), config.sink.postgres.breaker());
    let landed = LandedRows::new(Box::new(landing), patience, shutdown.clone());
    health.clear(Condition::Target);

    health.block(Condition::State, "loading the current rows from the landing tables");
    let mut stores = StateStores::new(&tables, config.sql.watermark_delay)?;
    stores.set_idle_after(config.sql.idle_after);
    if let Some(limit) = config.sql.memory_limit {
        stores.set_memory_limit(limit);
    }
    let decoder = Decoder::new(tables, &config.decode);
    let decoder = decoder.with_limits(config.limits.clone());
    let decoder = decoder.with_extractions(sql.extractions.clone());
    let decoder = registered.teach(decoder, sql, &results);
    let mut letters = LetterStore::new(config.sink.postgres.clone(), config.pipeline.as_str());
    let asked = letters.result_requests(MENDED_ROWS).await?;
    let state = (stores, transforms);
    let processor = resume(&mut sink, decoder, state, landed, (queue, asked)).await?;
    let processor = processor.with_letters(&config.dead_letters);
    health.clear(Condition::State);
    let has_failed_to_alter = !altered.failed.is_empty();
    Ok(Started { processor, sink, has_failed_to_alter, waits_for_target })
}

/// Reads the ledger, fills the state stores from the landing tables, and takes what the SQL says over
/// them for what the targets show, but for rows that were refused: those of `asked` are put right.
pub(super) async fn resume(
    sink: &mut dyn Sink,
    mut decoder: Decoder,
    (mut stores, mut transforms): (StateStores, Transforms),
    landed: LandedRows,
    (queue, asked): (&str, Vec<RefusedResultRow>),
) -> Result<Processor, PipelineError> {
    let mut position = sink.resume().await?;
    decoder.remember(&position.schema_changes);
    let mut times = Ticks::default();
    for (table, columns) in transforms.indexes() {
        stores.add_index(table, columns)?;
    }
    for table in decoder.tables() {
        let mut columns = transforms.columns_read(table);
        columns.extend(sink.needs_old_values(table));
        stores.keep_columns(&table.name, &columns);
        stores.keep_for_windows(&table.name, transforms.windows(&table.name));
        failpoint(Failpoint::Bootstrap);
        for changelog in sink.bootstrap(table, None).await? {
            stores.note_times(&mut times, &changelog);
            stores.note_truncates(&changelog);
            stores.fold(changelog)?;
            if let Some(excess) = stores.excess(std::iter::empty()) {
                return Err(StateError::MemoryLimit(excess).into());
            }
        }
    }
    stores.advance_to(times);
    if let Some(watermark) = position.watermark {
        stores.resume_watermark(watermark);
    }
    look_up(sink, &mut stores, transforms.enrichments()).await?;
    let written = &position.definitions;
    // Before ttl drops anything: a result with a new definition is computed over all rows.
    transforms.load(&stores, stores.clock().watermark).await?;
    let redefined = transforms.redefined(written, &stores)?;
    let is_described = |name: &&String| transforms.results().any(|result| result.name == **name);
    let retired: Vec<String> = written.keys().filter(|name| !is_described(name)).cloned().collect();
    if !redefined.is_empty() || !retired.is_empty() {
        tell_retired(&retired, &transforms);
        let results = (redefined, retired);
        position = rewrite(sink, position, results, (queue, stores.clock().watermark)).await?;
    }
    if !asked.is_empty() {
        let mended = mending::mendings(&transforms, &stores, asked)?;
        position = mend(sink, position, mended, (queue, stores.clock().watermark)).await?;
    }
    stores.mark_landed();
    let mut dropped = stores.expire()?;
    if !dropped.is_empty() {
        dropped.extend(stores.look_up(&dropped, &[])?);
        transforms.forget(&stores, dropped).await?;
    }
    let rows: usize = stores.stores().map(|store| store.len()).sum();
    info!(epoch = position.epoch.map_or(0, |e| e.0), rows, "state is loaded");
    Ok(Processor::new(queue.to_owned(), decoder, (stores, transforms), landed, position))
}

/// Gives each row of the enriched tables what it shows; of the past only what a row shows is kept.
async fn look_up(
    sink: &mut dyn Sink,
    stores: &mut StateStores,
    enrichments: &[Arc<Enrichment>],
) -> Result<(), PipelineError> {
    let mut tables = BTreeSet::new();
    for enrichment in enrichments {
        stores.enrich(enrichment)?;
        tables.insert(&enrichment.enriched.name);
    }
    for table in tables {
        for part in stores.parts(table, LOOKED_UP_ROWS)? {
            let part = [part];
            let mut history = Vec::new();
            for (looked_up, keys) in stores.doubtful(&part)? {
                history.extend(sink.history(&looked_up, &keys).await?);
            }
            stores.look_up_landed(&part, &history)?;
        }
    }
    Ok(())
}

/// When such a result runs again, it is written anew: nobody knows what it has missed.
fn tell_retired(retired: &[String], transforms: &Transforms) {
    for result in retired {
        match transforms.waiting().iter().any(|waiting| waiting.result == *result) {
            true => info!(result, "it waits: its table keeps the rows that it has"),
            false => info!(result, "its SQL file is gone: its table keeps the rows that it has"),
        }
    }
}

/// Commits an epoch without messages: results that are new to their targets, and the names of those
/// that nothing keeps up to date any more.
async fn rewrite(
    sink: &mut dyn Sink,
    position: LedgerPosition,
    (results, retired): (Vec<ResultChanges>, Vec<String>),
    (queue, watermark): (&str, Option<i64>),
) -> Result<LedgerPosition, PipelineError> {
    for changes in &results {
        let (result, target) = (&changes.table.name, &changes.table.target);
        info!(
            result,
            target,
            rows = changes.upserts.num_rows(),
            "new or edited SQL: its target is written anew"
        );
    }
    let commit = EpochCommit { results, retired, ..after(&position, queue, watermark) };
    sink.commit(&commit).await?;
    Ok(LedgerPosition { epoch: Some(commit.epoch), watermark, ..position })
}

/// Commits an epoch without messages: rows of results that were refused, as they are today.
async fn mend(
    sink: &mut dyn Sink,
    position: LedgerPosition,
    (mended, replayed): (Vec<Mending>, Vec<Replayed>),
    (queue, watermark): (&str, Option<i64>),
) -> Result<LedgerPosition, PipelineError> {
    for Mending { changes, .. } in &mended {
        let (rows, gone) = (changes.upserts.num_rows(), changes.deletes.num_rows());
        info!(
            result = changes.table.name,
            rows, gone, "refused rows are written as they are today"
        );
    }
    let commit = EpochCommit { mended, replayed, ..after(&position, queue, watermark) };
    failpoint(Failpoint::BeforeCommit);
    sink.commit(&commit).await?;
    failpoint(Failpoint::BetweenCommitAndAck);
    Ok(LedgerPosition { epoch: Some(commit.epoch), watermark, ..position })
}

/// The next epoch, with nothing in it.
fn after(position: &LedgerPosition, queue: &str, watermark: Option<i64>) -> EpochCommit {
    let now = SystemTime::now();
    EpochCommit {
        epoch: position.epoch.unwrap_or(Epoch(0)).next(),
        queue: queue.to_owned(),
        offsets: OffsetSet::default(),
        spools: position.spools.clone(),
        landing: Vec::new(),
        results: Vec::new(),
        retired: Vec::new(),
        dead_letters: Vec::new(),
        replayed: Vec::new(),
        mended: Vec::new(),
        resent: Vec::new(),
        schema_changes: Vec::new(),
        watermark,
        opened_at: now,
        closed_at: now,
    }
}
