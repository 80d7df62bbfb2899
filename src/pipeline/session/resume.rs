//! From the ledger and the landing tables to a processor with its state.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use tracing::{info, warn};

use crate::decode::Decoder;
use crate::model::{
    Channel, CommittedEpoch, Epoch, EpochCommit, LedgerPosition, Mending, OffsetSet,
    RefusedResultRow, ResultChanges, Table, TemporalJoin,
};
use crate::pipeline::epoch::processor::{Processor, ProcessorParts};
use crate::pipeline::error::PipelineError;
use crate::pipeline::schema::result_repair;
use crate::resilience::{Failpoint, failpoint};
use crate::sink::{Sink, TakeRows};
use crate::state::{StateLoader, StateStores};
use crate::transform::{Redefined, Transforms};

/// The histories of what so many rows look up are in memory at once at a start.
const LOOKED_UP_ROWS: usize = 8192;

/// Reads the ledger, fills the state stores from the landing tables, and takes what the SQL says over
/// them for what the targets show, but for the `refused` rows, which are put right.
pub(crate) async fn resume(
    sink: &mut dyn Sink,
    parts: ProcessorParts,
    refused: Vec<RefusedResultRow>,
) -> Result<Processor, PipelineError> {
    let ProcessorParts { pipeline, queue, mut decoder, stores, mut transforms, .. } = parts;
    let ProcessorParts { landing_reader, result_letters, .. } = parts;
    let mut position = sink.resume().await?;
    decoder.remember(&position.schema_changes);
    let started_at = position.epoch;
    let loading = Loading { decoder: &decoder, transforms: &mut transforms, pipeline: &pipeline };
    let mut stores = load(sink, stores, loading, position.watermark).await?;
    look_up(sink, &mut stores, transforms.temporal_joins()).await?;
    transforms.follow(&stores, None, stores.clock().watermark);
    transforms.open_unfollowed(&mut stores)?;
    let written = &written(&position, &stores, &transforms);
    let mut failed = transforms.load(&stores, stores.clock().watermark).await;
    let Redefined { results: redefined, left_out, failed: unwritten } =
        transforms.redefined(written, &stores).await;
    failed.extend(unwritten);
    let is_described = |name: &&String| transforms.results().any(|result| result.name == **name);
    let retired: Vec<String> = written.keys().filter(|name| !is_described(name)).cloned().collect();
    let watermark = stores.clock().watermark;
    if !redefined.is_empty() || !retired.is_empty() {
        tell_redefined(&redefined);
        tell_retired(&retired, &transforms);
        let empty = next_epoch(&position, &queue, watermark);
        let result_letters = result_letters.of(&left_out);
        let commit = EpochCommit { results: redefined, retired, result_letters, ..empty };
        position = commit_without_messages(sink, position, &commit).await?;
    }
    if !refused.is_empty() {
        let (mended, replayed) = result_repair::mendings(&transforms, &stores, refused)?;
        tell_mended(&mended);
        let empty = next_epoch(&position, &queue, watermark);
        let commit = EpochCommit { mended, replayed, ..empty };
        failpoint(Failpoint::BeforeCommit);
        position = commit_without_messages(sink, position, &commit).await?;
        failpoint(Failpoint::BetweenCommitAndAck);
    }
    stores.evict(transforms.upkeep()?.into_iter().map(|(_, upkeep)| upkeep).sum())?;
    let rows: usize = stores.stores().map(|store| store.len()).sum();
    let (results, kept) = (transforms.results().count(), transforms.followed().count());
    let epoch = position.epoch.map_or(0, |e| e.0);
    info!(epoch, rows, results, results_from_disk = kept, "state is loaded");
    note_committed(&mut stores, &position, (position.epoch > started_at).then(|| sink.run_id()));
    let parts = ProcessorParts {
        pipeline,
        queue,
        decoder,
        stores,
        transforms,
        landing_reader,
        result_letters,
    };
    let run_id = sink.run_id().to_owned();
    Ok(Processor::new(parts, position).with_failed(failed).with_run(run_id))
}

/// Notes the newest epoch: `own_run` has committed it, or who the ledger says.
fn note_committed(stores: &mut StateStores, position: &LedgerPosition, own_run: Option<&str>) {
    let run_id = own_run.map(str::to_owned).or_else(|| position.run_id.clone());
    if let (Some(epoch), Some(run_id)) = (position.epoch, run_id) {
        stores.note_committed(CommittedEpoch { epoch, run_id });
    }
}

/// What says which rows are loaded.
struct Loading<'a> {
    decoder: &'a Decoder,
    transforms: &'a mut Transforms,
    pipeline: &'a str,
}

/// Fills the stores, from the disk or from the landing tables.
async fn load(
    sink: &mut dyn Sink,
    mut stores: StateStores,
    Loading { decoder, transforms, pipeline }: Loading<'_>,
    watermark: Option<i64>,
) -> Result<StateStores, PipelineError> {
    for (table, columns) in transforms.indexes() {
        stores.add_index(table, columns)?;
    }
    for join in transforms.temporal_joins() {
        stores.keep_in_memory(&join.enriched.name);
    }
    let mut loader = StateLoader::new(stores);
    let messages = kept_to(sink, &mut loader, pipeline).await?;
    let mut kept = HashSet::new();
    for table in decoder.tables() {
        if open_table(&mut loader, transforms, sink, table)? {
            kept.insert(table.name.clone());
        }
    }
    let watermark_of_kept = loader.stores().clock().watermark;
    transforms.open(loader.stores_mut(), &kept, watermark_of_kept)?;
    for table in decoder.tables() {
        let messages = messages.as_ref().filter(|_| kept.contains(&table.name));
        load_table(sink, &mut loader, transforms, KeptTable { table, messages }).await?;
    }
    Ok(loader.finish(watermark)?)
}

/// Under which definitions the targets hold what they are to show.
fn written(
    position: &LedgerPosition,
    stores: &StateStores,
    transforms: &Transforms,
) -> BTreeMap<String, String> {
    let mut written = position.definitions.clone();
    if stores.has_start_time() {
        // What these show goes by another time.
        written.retain(|result, _| !transforms.goes_by_time(result));
    }
    written
}

/// The messages whose changes the state on disk may lack. `None`: there is none, or it is of other epochs than the ledger.
async fn kept_to(
    sink: &mut dyn Sink,
    loader: &mut StateLoader,
    pipeline: &str,
) -> Result<Option<OffsetSet>, PipelineError> {
    let Some(kept) = loader.find_kept(pipeline)? else { return Ok(None) };
    let messages = sink.committed_since(&kept).await?;
    let epoch = kept.epoch.0;
    match &messages {
        Some(messages) => {
            let messages = messages.count();
            info!(epoch, messages, "going on from the state on disk");
            loader.accept_kept();
        }
        None => {
            warn!(
                epoch,
                "the ledger does not tell what came after the state on disk: all rows are read from the landing tables"
            );
            loader.reject_kept()?;
        }
    }
    Ok(messages)
}

/// A table, and the messages whose changes its rows on disk lack; `None`: it has none there.
struct KeptTable<'a> {
    table: &'a Arc<Table>,
    messages: Option<&'a OffsetSet>,
}

/// Says which columns of a table are kept, and goes on from its rows on disk if these are of use.
fn open_table(
    loader: &mut StateLoader,
    transforms: &Transforms,
    sink: &dyn Sink,
    table: &Arc<Table>,
) -> Result<bool, PipelineError> {
    let mut columns = transforms.columns_read(table);
    columns.extend(sink.needs_old_values(table));
    let is_left_alone = !transforms.needs_rows_of(&table.name) && !table.is_extracted();
    if is_left_alone {
        loader.note_unread(&table.name);
    }
    Ok(loader.open(&table.name, &columns, transforms.windows(&table.name))?)
}

/// Reads what has changed since its rows on disk, or the newest rows of all keys.
async fn load_table(
    sink: &mut dyn Sink,
    loader: &mut StateLoader,
    transforms: &mut Transforms,
    KeptTable { table, messages }: KeptTable<'_>,
) -> Result<(), PipelineError> {
    failpoint(Failpoint::Bootstrap);
    let mut loaded = Ok(());
    let take: TakeRows<'_> = &mut |changelog| {
        loaded = loader.load(changelog).map(|delta| {
            let watermark = transforms.watermark();
            transforms.follow(loader.stores(), Some(delta), watermark);
        });
        if loaded.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    match messages {
        Some(messages) => sink.each_change(table, messages, take).await?,
        None => sink.each_newest(table, None, take).await?,
    }
    Ok(loaded?)
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

fn tell_redefined(results: &[ResultChanges]) {
    for changes in results {
        let (result, target) = (&changes.table.name, &changes.table.target);
        let rows = changes.upserts.num_rows();
        match changes.table.channel {
            Channel::Table => {
                info!(
                    result,
                    target, rows, "new or edited SQL: all rows of its target are written"
                );
            }
            Channel::Rest(_) => {
                info!(
                    result,
                    path = target,
                    "new or edited SQL: what changes from now on is posted"
                );
            }
        }
    }
}

/// When such a result runs again, all of it is written: what it has missed is unknown.
fn tell_retired(retired: &[String], transforms: &Transforms) {
    for result in retired {
        if transforms.pending().iter().any(|waiting| waiting.result == *result) {
            info!(result, "it waits: its table keeps the rows that it has");
        } else {
            info!(result, "its SQL file is gone: its table keeps the rows that it has");
        }
    }
}

fn tell_mended(mended: &[Mending]) {
    for Mending { changes, .. } in mended {
        let (rows, gone) = (changes.upserts.num_rows(), changes.deletes.num_rows());
        let result = &changes.table.name;
        info!(result, rows, gone, "refused rows are written as they are today");
    }
}

/// The next epoch, with nothing in it.
fn next_epoch(position: &LedgerPosition, queue: &str, watermark: Option<i64>) -> EpochCommit {
    let epoch = position.epoch.unwrap_or(Epoch(0)).next();
    let generations = position.generations.clone();
    EpochCommit { generations, watermark, ..EpochCommit::empty(epoch, queue) }
}

/// The position after the epoch.
async fn commit_without_messages(
    sink: &mut dyn Sink,
    position: LedgerPosition,
    commit: &EpochCommit,
) -> Result<LedgerPosition, PipelineError> {
    sink.commit(commit).await?;
    let (epoch, watermark) = (Some(commit.epoch), commit.watermark);
    Ok(LedgerPosition { epoch, watermark, ..position })
}
