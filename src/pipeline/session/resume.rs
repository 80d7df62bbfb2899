//! From the ledger and the landing tables to a processor with its state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::info;

use crate::decode::Decoder;
use crate::model::{
    Epoch, EpochCommit, LedgerPosition, Mending, OffsetSet, RefusedResultRow, Replayed,
    ResultChanges, TemporalJoin,
};
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::epoch::processor::Processor;
use crate::pipeline::error::PipelineError;
use crate::pipeline::schema::result_repair;
use crate::resilience::{Failpoint, failpoint};
use crate::sink::Sink;
use crate::state::{StateLoader, StateStores};
use crate::transform::Transforms;

/// The histories of what so many rows look up are in memory at once at a start.
const LOOKED_UP_ROWS: usize = 8192;

/// Reads the ledger, fills the state stores from the landing tables, and takes what the SQL says over
/// them for what the targets show, but for rows that were refused: those of `asked` are put right.
pub(in crate::pipeline) async fn resume(
    sink: &mut dyn Sink,
    mut decoder: Decoder,
    (mut stores, mut transforms): (StateStores, Transforms),
    landed: LandingReader,
    (queue, asked): (&str, Vec<RefusedResultRow>),
) -> Result<Processor, PipelineError> {
    let mut position = sink.resume().await?;
    decoder.remember(&position.schema_changes);
    for (table, columns) in transforms.indexes() {
        stores.add_index(table, columns)?;
    }
    let mut loader = StateLoader::new(stores);
    for table in decoder.tables() {
        let mut columns = transforms.columns_read(table);
        columns.extend(sink.needs_old_values(table));
        let mut rows = loader.open(&table.name, &columns, transforms.windows(&table.name));
        failpoint(Failpoint::Bootstrap);
        for changelog in sink.bootstrap(table, None).await? {
            rows.load(changelog)?;
        }
    }
    let mut stores = loader.finish(position.watermark);
    look_up(sink, &mut stores, transforms.temporal_joins()).await?;
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
        let mended = result_repair::mendings(&transforms, &stores, asked)?;
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
    enrichments: &[Arc<TemporalJoin>],
) -> Result<(), PipelineError> {
    let mut tables = BTreeSet::new();
    for enrichment in enrichments {
        stores.add_temporal_join(enrichment)?;
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
        match transforms.pending().iter().any(|waiting| waiting.result == *result) {
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
